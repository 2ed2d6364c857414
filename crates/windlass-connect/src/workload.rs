//! Identity tokens of CI jobs: who a workflow is, without a secret that it has to keep.

use crate::claims::{Claims, Required, text};
use crate::discovery::{KeysOnly, Remote};
use crate::error::{IdentityError, plain};
use crate::http::{Http, issuer_url};
use crate::token;
use openidconnect::url::Url;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use windlass_model::Micros;
use windlass_model::approval::Actor;

/// An issuer of identity tokens for CI jobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// What it is called in identities (`ci:NAME`) and messages: lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Whose claims it makes.
    #[serde(default)]
    pub kind: Kind,
    /// Its address, exactly as in the tokens' `iss`; `https`, or this machine. For `github` and `gitlab` that of the public
    /// service when it is left out.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The `aud` that tokens have to have, and no other beside it: the address of this server is a good one.
    pub audience: String,
    /// Claims that a token has to have, each with patterns of which one has to match: `*` stands for anything but `/`, `**` as a
    /// whole path component for anything. At least one is needed: an issuer may work for the whole world.
    pub claims: BTreeMap<String, Vec<String>>,
    /// The address of its keys, for an issuer without a discovery document.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// A PEM file of certificates to trust besides the machine's own.
    #[serde(default)]
    pub root_certificates: Option<PathBuf>,
}

/// Whose claims an issuer makes: what its actors are called, and which identities they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// GitHub Actions.
    Github,
    /// GitLab CI/CD, on gitlab.com or elsewhere.
    Gitlab,
    /// Any other issuer: only the subject is read.
    #[default]
    Oidc,
}

/// The address of GitHub's issuer and the claims of which one says whose job it is.
const GITHUB: (&str, &[&str]) = (
    "https://token.actions.githubusercontent.com",
    &["sub", "repository", "repository_id", "repository_owner", "repository_owner_id", "enterprise", "enterprise_id"],
);
/// The same of GitLab's public service.
const GITLAB: (&str, &[&str]) =
    ("https://gitlab.com", &["sub", "project_path", "project_id", "namespace_path", "namespace_id"]);

/// A job that an issuer vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Who acts: `ci:NAME`, and `ci:NAME:CLAIM=VALUE` for subject, repository, environment and ref (as far as they are known).
    pub actor: Actor,
    /// Different for every token of every issuer declared here. Whoever takes a token once keeps this until
    /// [`Workload::expires`] and refuses a second use.
    pub token_id: String,
    /// When the token counts no more, whatever clocks say.
    pub expires: Micros,
}

/// The declared issuers.
#[derive(Debug)]
pub struct Issuers(Vec<Issuer>);

/// One issuer. Its keys are asked for when the first of its tokens comes.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    kind: Kind,
    audience: String,
    required: Required,
    remote: Remote<KeysOnly>,
}

impl Issuers {
    /// # Errors
    /// [`IdentityError::Settings`] of the first that cannot be used.
    pub fn new(settings: Vec<IssuerSettings>) -> Result<Self, IdentityError> {
        let mut names = BTreeSet::new();
        let mut issuers = Vec::new();
        for settings in settings {
            if !names.insert(settings.name.clone()) {
                let problem = "there are two of this name".into();
                return Err(IdentityError::Settings { provider: settings.name, problem });
            }
            issuers.push(Issuer::new(settings)?);
        }
        Ok(Self(issuers))
    }

    /// Whose job the token is, by the issuers that its `iss` names. Replay is for the caller to refuse, see
    /// [`Workload::token_id`].
    ///
    /// # Errors
    /// None is declared for it, or the token does not count at any of those that are.
    pub fn verify(&self, token: &str, now: Micros) -> Result<Workload, IdentityError> {
        let undeclared = |problem: String| IdentityError::Undeclared { problem };
        let claims =
            token::payload(token).ok_or_else(|| undeclared("the token is not a signed JSON web token".into()))?;
        let issuer = text(&claims, "iss").unwrap_or_default();
        let mut refused = None;
        for candidate in self.0.iter().filter(|candidate| candidate.remote.issuer == issuer) {
            match candidate.verify(token, now) {
                Ok(workload) => return Ok(workload),
                // Of several, the one that only lacks a claim is the one that was meant.
                Err(error @ IdentityError::Claims { .. }) => refused = Some(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| {
            undeclared(format!("the token was issued by `{}`, which is not declared here", plain(&issuer)))
        }))
    }
}

impl Issuer {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// [`IdentityError::Settings`].
    pub fn new(settings: IssuerSettings) -> Result<Self, IdentityError> {
        let wrong = |problem| IdentityError::Settings { provider: settings.name.clone(), problem };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if settings.name.is_empty() || !settings.name.chars().all(is_name) {
            return Err(wrong("`name` may hold lower-case letters, digits, `-`, `_` and `.`".into()));
        }
        if settings.audience.is_empty() {
            return Err(wrong("`audience` is empty".into()));
        }
        let public = match settings.kind {
            Kind::Github => Some(GITHUB.0),
            Kind::Gitlab => Some(GITLAB.0),
            Kind::Oidc => None,
        };
        let issuer = settings.issuer.as_deref().or(public);
        let issuer = issuer.ok_or_else(|| wrong("`issuer` is missing".into()))?.to_owned();
        let url = issuer_url(&issuer).map_err(wrong)?;
        check_breadth(&url, &settings.claims).map_err(wrong)?;
        let required = Required::new(&settings.claims).map_err(wrong)?;
        let http = Http::new(&url, settings.root_certificates.as_deref()).map_err(wrong)?;
        let given = settings.jwks_url.map(|jwks_uri| KeysOnly { issuer: issuer.clone(), jwks_uri });
        let remote = Remote::new(settings.name.clone(), issuer, http, given);
        Ok(Self { name: settings.name, kind: settings.kind, audience: settings.audience, required, remote })
    }

    /// Whose job the token is. Replay is for the caller to refuse, see [`Workload::token_id`].
    ///
    /// # Errors
    /// The issuer cannot be asked for its keys, the token does not count, or it lacks a declared claim.
    pub fn verify(&self, token: &str, now: Micros) -> Result<Workload, IdentityError> {
        let claims = token::check(&self.remote, token, &self.audience, None, now)?.claims;
        let lacking = |problem| IdentityError::Claims { provider: self.name.clone(), problem };
        self.required.check(&claims).map_err(lacking)?;
        let subject = text(&claims, "sub").ok_or_else(|| lacking("there is no `sub`".into()))?;
        // Without an id of its own the token is what was signed; a signature alone can be written in more than one way.
        let id = text(&claims, "jti").unwrap_or_else(|| {
            let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
            Sha256::digest(signed).iter().map(|byte| format!("{byte:02x}")).collect()
        });
        let expires = claims.get("exp").and_then(Value::as_f64).map_or(Micros::MAX, |at| (at * 1e6) as Micros);
        Ok(Workload {
            actor: self.actor(&claims, &subject),
            token_id: format!("{} {id}", self.remote.issuer),
            expires: expires.saturating_add(token::LEEWAY),
        })
    }

    fn actor(&self, claims: &Claims, subject: &str) -> Actor {
        let claim = |name| text(claims, name);
        // Quoted, since whoever writes a workflow chooses its name.
        let or_unknown = |name| claim(name).map_or_else(|| "?".to_owned(), |text| plain(&text));
        let (name, repository, reference) = match self.kind {
            Kind::Github => {
                let workflow = claim("workflow").unwrap_or_default();
                let (repository, person) = (or_unknown("repository"), or_unknown("actor"));
                let name = format!("workflow {:?} of {repository} started by {person}", plain(&workflow));
                (name, claim("repository"), claim("ref"))
            }
            Kind::Gitlab => {
                let pipeline = texts_first(claims, "pipeline_id");
                let (project, person) = (or_unknown("project_path"), or_unknown("user_login"));
                let name = format!("pipeline {pipeline} of {project} on {:?} started by {person}", or_unknown("ref"));
                (name, claim("project_path"), gitlab_ref(claims))
            }
            Kind::Oidc => (format!("{} {:?}", self.name, plain(subject)), None, None),
        };
        let environment = claim("environment").filter(|_| self.kind != Kind::Oidc);
        let facts = [
            ("subject", Some(subject.to_owned())),
            ("repository", repository),
            ("environment", environment),
            ("ref", reference),
        ];
        let known = facts.into_iter().filter_map(|(fact, value)| Some(format!("ci:{}:{fact}={}", self.name, value?)));
        let identities = std::iter::once(format!("ci:{}", self.name)).chain(known).collect();
        Actor { name, identities, verified: true }
    }
}

fn texts_first(claims: &Claims, claim: &str) -> String {
    crate::claims::texts(claims, claim).first().map_or_else(|| "?".to_owned(), |text| plain(text))
}

/// As GitHub writes it: GitLab's short `ref` is the same for a branch and a tag of one name.
fn gitlab_ref(claims: &Claims) -> Option<String> {
    text(claims, "ref_path").or_else(|| {
        let short = text(claims, "ref")?;
        match text(claims, "ref_type")?.as_str() {
            "branch" => Some(format!("refs/heads/{short}")),
            "tag" => Some(format!("refs/tags/{short}")),
            _ => None,
        }
    })
}

/// That the claims say whose jobs are meant, where everybody has an account.
fn check_breadth(issuer: &Url, claims: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    if claims.is_empty() {
        return Err("`claims` is empty, so that every token for this audience would do".into());
    }
    for (public, owners) in [GITHUB, GITLAB] {
        let is_public = Url::parse(public).is_ok_and(|public| public.host() == issuer.host());
        if is_public && !owners.iter().any(|owner| claims.contains_key(*owner)) {
            let owners = owners.join("`, `");
            return Err(format!(
                "`claims` says nothing of whose jobs they are: everybody can have one there. Add one of `{owners}`"
            ));
        }
    }
    Ok(())
}
