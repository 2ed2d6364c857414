//! What a provider says of itself, and its keys, kept for a while.

use crate::error::{IdentityError, plain};
use crate::http::Http;
use openidconnect::core::{CoreJsonWebKeySet, CoreProviderMetadata};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use windlass_model::Micros;

const MINUTE: Micros = 60_000_000;
/// How long keys are taken without a look whether they are still the provider's own: one that it has withdrawn counts no longer.
const KEPT: Micros = 60 * MINUTE;
/// How long nobody asks again after the first look failed.
const AFTER_FAILURE: Micros = MINUTE / 6;

/// The discovery document of OpenID Connect, as far as somebody needs it.
pub(crate) trait Document: DeserializeOwned {
    fn issuer(&self) -> &str;
    fn jwks_uri(&self) -> &str;
}

impl Document for CoreProviderMetadata {
    fn issuer(&self) -> &str {
        self.issuer()
    }
    fn jwks_uri(&self) -> &str {
        self.jwks_uri()
    }
}

/// Issuers of CI tokens sign nobody in: their documents have no more than this for certain.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KeysOnly {
    pub(crate) issuer: String,
    pub(crate) jwks_uri: String,
}

impl Document for KeysOnly {
    fn issuer(&self) -> &str {
        &self.issuer
    }
    fn jwks_uri(&self) -> &str {
        &self.jwks_uri
    }
}

#[derive(Debug)]
pub(crate) struct Known<D> {
    pub(crate) document: D,
    pub(crate) keys: CoreJsonWebKeySet,
    at: Micros,
}

/// A provider, and what is known of it.
#[derive(Debug)]
pub(crate) struct Remote<D> {
    pub(crate) provider: String,
    pub(crate) issuer: String,
    pub(crate) http: Http,
    /// The document when the settings give it; otherwise it is asked for.
    given: Option<D>,
    known: RwLock<Option<Arc<Known<D>>>>,
    /// The last look. Held while the provider is asked, so that one of many does it.
    asked: Mutex<Option<Attempt>>,
}

/// When the provider was asked, and how that failed.
type Attempt = (Micros, Option<IdentityError>);

impl<D: Document + Clone> Remote<D> {
    pub(crate) fn new(provider: String, issuer: String, http: Http, given: Option<D>) -> Self {
        Self { provider, issuer, http, given, known: RwLock::default(), asked: Mutex::default() }
    }

    /// What is known, which is asked for when nothing is.
    pub(crate) fn known(&self, now: Micros) -> Result<Arc<Known<D>>, IdentityError> {
        match self.last() {
            None => self.ask(self.turn(), now, None),
            Some(known) if now.abs_diff(known.at) <= KEPT as u64 => Ok(known),
            // Keys that are old are better than none: the provider may be away for a while. Nobody waits for another who looks.
            Some(known) => match self.asked.try_lock() {
                Ok(turn) => Ok(self.ask(turn, now, Some(&known)).unwrap_or(known)),
                Err(_) => Ok(known),
            },
        }
    }

    /// Asks anew because what is `seen` does not hold the key that is needed; at most once a minute. `None`: there is nothing
    /// newer.
    pub(crate) fn newer(&self, now: Micros, seen: &Arc<Known<D>>) -> Option<Arc<Known<D>>> {
        self.ask(self.turn(), now, Some(seen)).ok().filter(|found| !Arc::ptr_eq(found, seen))
    }

    fn last(&self) -> Option<Arc<Known<D>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn turn(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is newer than `seen`; `seen` itself when it was asked for within a minute.
    fn ask(
        &self,
        mut asked: MutexGuard<'_, Option<Attempt>>,
        now: Micros,
        seen: Option<&Arc<Known<D>>>,
    ) -> Result<Arc<Known<D>>, IdentityError> {
        if let Some(last) = self.last()
            && seen.is_none_or(|seen| !Arc::ptr_eq(seen, &last))
        {
            return Ok(last);
        }
        match (&*asked, seen) {
            (Some((at, _)), Some(seen)) if now.abs_diff(*at) < MINUTE as u64 => return Ok(seen.clone()),
            (Some((at, Some(error))), None) if now.abs_diff(*at) < AFTER_FAILURE as u64 => return Err(error.clone()),
            _ => {}
        }
        match self.discover(now) {
            Ok(found) => {
                let found = Arc::new(found);
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
                *asked = Some((now, None));
                Ok(found)
            }
            Err(error) => {
                *asked = Some((now, Some(error.clone())));
                Err(error)
            }
        }
    }

    fn discover(&self, at: Micros) -> Result<Known<D>, IdentityError> {
        let document = match &self.given {
            Some(given) => given.clone(),
            None => self.document()?,
        };
        let url = document.jwks_uri();
        let keys: CoreJsonWebKeySet = self.get(url)?;
        if keys.keys().is_empty() {
            let problem = "there is no key that this release can use".into();
            return Err(IdentityError::Answer { provider: self.provider.clone(), url: plain(url), problem });
        }
        Ok(Known { document, keys, at })
    }

    fn document(&self) -> Result<D, IdentityError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let document: D = self.get(&url)?;
        if document.issuer() == self.issuer {
            return Ok(document);
        }
        let problem = format!("it names its issuer `{}`, and the settings `{}`", plain(document.issuer()), self.issuer);
        Err(IdentityError::Answer { provider: self.provider.clone(), url, problem })
    }

    fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, IdentityError> {
        let content = self.http.get(url).map_err(|error| error.at(&self.provider, url))?;
        serde_json::from_slice(&content).map_err(|error| IdentityError::Answer {
            provider: self.provider.clone(),
            url: plain(url),
            problem: plain(&error.to_string()),
        })
    }
}
