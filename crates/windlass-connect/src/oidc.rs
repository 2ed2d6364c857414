//! Sign-in of people at any OpenID Connect provider: authorisation code with PKCE.

use crate::claims::{Claims, Required, text, texts};
use crate::discovery::Remote;
use crate::error::{IdentityError, plain};
use crate::http::{Http, HttpError, issuer_url};
use crate::token::{self, Checked};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreGenderClaim, CoreProviderMetadata, CoreTokenResponse,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, SubjectIdentifier, TokenResponse, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use windlass_model::Micros;
use windlass_model::approval::Actor;

/// A provider that people sign in at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// What it is called on the sign-in page and in messages, e.g. `company`.
    pub name: String,
    /// Its address, exactly as its discovery document has it; `https`, or this machine.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// Not for a public client.
    #[serde(default)]
    pub client_secret: Option<ClientSecret>,
    /// A file that holds the secret, instead; spaces and line ends around it do not count.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Asked for besides `openid`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// The claim with the groups of a person, each of which is an identity `oidc-group:NAME`.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// The claim with a name that is unique at this provider and that nobody can change for himself; it is the identity `user:NAME`.
    /// Without it nobody gets such an identity: OpenID Connect promises neither for any claim.
    #[serde(default)]
    pub username_claim: Option<String>,
    /// An e-mail of which the provider does not say whether it was verified counts as if it were. Only for a provider where no
    /// person can enter an e-mail; one that is said not to be verified never counts.
    #[serde(default)]
    pub trust_email: bool,
    /// Claims that a person has to have to be let in at all, each with patterns of which one has to match: `*` stands for
    /// anything but `/`. A claim that is a list matches with one of its members.
    #[serde(default)]
    pub claims: BTreeMap<String, Vec<String>>,
    /// A PEM file of certificates to trust besides the machine's own.
    #[serde(default)]
    pub root_certificates: Option<PathBuf>,
}

fn default_scopes() -> Vec<String> {
    vec!["email".into(), "profile".into()]
}

fn default_groups_claim() -> String {
    "groups".into()
}

/// A sign-in that begins. All but `url` has to be kept, for one use, where only this browser's session can have it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authorisation {
    /// Where the browser goes.
    pub url: String,
    pub state: String,
    pub nonce: String,
    pub pkce_verifier: String,
}

/// What the provider sends a browser back with: the query of the redirect address.
#[derive(Clone, Default, Deserialize)]
pub struct Callback {
    pub code: Option<String>,
    pub state: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
    /// Who answers (RFC 9207); not every provider says so.
    pub iss: Option<String>,
}

/// A person, as a provider vouches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub issuer: String,
    /// Never given to another person by this issuer.
    pub subject: String,
    /// For people to read; the person may have chosen it.
    pub name: String,
    /// Of `username_claim`.
    pub username: Option<String>,
    /// Only when it is verified.
    pub email: Option<String>,
    /// Sorted.
    pub groups: Vec<String>,
}

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// Every claim of a userinfo answer that the library has no field for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rest {
    #[serde(flatten)]
    claims: Claims,
}

impl AdditionalClaims for Rest {}

/// One provider. It is asked what it offers when that is first needed.
#[derive(Debug)]
pub struct Provider {
    settings: ProviderSettings,
    secret: Option<ClientSecret>,
    required: Required,
    remote: Remote<CoreProviderMetadata>,
}

impl Provider {
    /// Nothing is asked yet: a provider that is away keeps nobody from starting.
    ///
    /// # Errors
    /// [`IdentityError::Settings`].
    pub fn new(settings: ProviderSettings) -> Result<Self, IdentityError> {
        let wrong = |problem| IdentityError::Settings { provider: settings.name.clone(), problem };
        // The address that a provider sends people back to has its name in it, where links to sign in by have this.
        if settings.name == "link" {
            return Err(wrong("its `name` is that of the links to sign in by: give it another".into()));
        }
        if settings.client_id.is_empty() {
            return Err(wrong("`client_id` is empty".into()));
        }
        let secret = match (&settings.client_secret, &settings.client_secret_file) {
            (Some(_), Some(_)) => return Err(wrong("it has both `client_secret` and `client_secret_file`".into())),
            (secret, None) => secret.clone(),
            (None, Some(path)) => {
                let unusable = |why: &str| wrong(format!("`client_secret_file` {} {why}", path.display()));
                let content = std::fs::read_to_string(path);
                let content = content.map_err(|error| unusable(&format!("cannot be read: {error}")))?;
                if content.trim().is_empty() {
                    return Err(unusable("is empty"));
                }
                Some(ClientSecret::new(content.trim().to_owned()))
            }
        };
        let issuer = issuer_url(&settings.issuer).map_err(wrong)?;
        let http = Http::new(&issuer, settings.root_certificates.as_deref()).map_err(wrong)?;
        let required = Required::new(&settings.claims).map_err(wrong)?;
        let remote = Remote::new(settings.name.clone(), settings.issuer.clone(), http, None);
        Ok(Self { settings, secret, required, remote })
    }

    /// What the settings call it.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Asks the provider what it offers, as a check; otherwise the first sign-in does.
    ///
    /// # Errors
    /// It cannot be asked, or is not the one that the settings mean.
    pub fn discover(&self, now: Micros) -> Result<(), IdentityError> {
        self.remote.known(now).map(drop)
    }

    /// Begins a sign-in that comes back to `redirect_uri`, which has to be registered at the provider.
    ///
    /// # Errors
    /// The provider cannot be asked, or `redirect_uri` is no address.
    pub fn authorise(&self, redirect_uri: &str, now: Micros) -> Result<Authorisation, IdentityError> {
        let client = self.client(redirect_uri, now)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = self.settings.scopes.iter().filter(|scope| *scope != "openid");
        let (url, state, nonce) = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(scopes.map(|scope| Scope::new(scope.clone())))
            .set_pkce_challenge(challenge)
            .url();
        Ok(Authorisation {
            url: url.into(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            pkce_verifier: verifier.into_secret(),
        })
    }

    /// The code for [`Self::exchange`], when the callback answers the sign-in that began with `state`.
    ///
    /// # Errors
    /// It belongs to another sign-in, or the provider refuses this one.
    pub fn code(&self, callback: &Callback, state: &str) -> Result<String, IdentityError> {
        let stray =
            |problem: &str| IdentityError::State { provider: self.settings.name.clone(), problem: problem.into() };
        match &callback.state {
            None => return Err(stray("it has no `state`")),
            Some(found) if state.is_empty() || found != state => return Err(stray("its `state` is another")),
            Some(_) => {}
        }
        if callback.iss.as_ref().is_some_and(|issuer| *issuer != self.settings.issuer) {
            return Err(stray("another provider gives it (`iss`)"));
        }
        if let Some(error) = &callback.error {
            return Err(self.refused(error, callback.error_description.as_deref()));
        }
        callback.code.clone().ok_or_else(|| stray("it has no `code`"))
    }

    /// Who signed in. `verifier`, `nonce` and `redirect_uri` are those of the [`Authorisation`].
    ///
    /// # Errors
    /// The provider refuses the code, it cannot be asked, its token does not count, or the person lacks a declared claim.
    pub fn exchange(
        &self,
        code: &str,
        verifier: &str,
        nonce: &str,
        redirect_uri: &str,
        now: Micros,
    ) -> Result<Identity, IdentityError> {
        let client = self.client(redirect_uri, now)?;
        let url = client.token_uri().map_or(self.settings.issuer.as_str(), |url| url.as_str());
        let ask = |request| self.remote.http.ask(request);
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| self.nonsense(url, &error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request(&ask)
            .map_err(|error| match error {
                RequestTokenError::ServerResponse(why) => {
                    self.refused(why.error().as_ref(), why.error_description().map(String::as_str))
                }
                RequestTokenError::Request(error) => error.at(&self.settings.name, url),
                // Its body may hold tokens.
                RequestTokenError::Parse(error, _) => self.nonsense(url, &error.to_string()),
                RequestTokenError::Other(what) => self.nonsense(url, &what),
            })?;
        let token = answer.id_token().ok_or_else(|| self.nonsense(url, "it gives no identity token"))?;
        let nonce = Nonce::new(nonce.to_owned());
        let checked = token::check(&self.remote, &token.to_string(), &self.settings.client_id, Some(&nonce), now)?;
        self.check_parties(&checked, &answer)?;
        let claims = self.complete(&client, checked.claims, answer.access_token())?;
        self.required.check(&claims).map_err(|problem| self.outsider(problem))?;
        self.identity(&claims)
    }

    fn client(&self, redirect_uri: &str, now: Micros) -> Result<Client, IdentityError> {
        let known = self.remote.known(now)?;
        let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|error| IdentityError::Settings {
            provider: self.settings.name.clone(),
            problem: format!("the redirect address {redirect_uri:?} is no address: {error}"),
        })?;
        let id = ClientId::new(self.settings.client_id.clone());
        let client = CoreClient::from_provider_metadata(known.document.clone(), id, self.secret.clone());
        // Where nothing is said, the first way is meant (OpenID Connect Discovery 1.0, section 3).
        let post_only = known.document.token_endpoint_auth_methods_supported().is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let how = if post_only { AuthType::RequestBody } else { AuthType::BasicAuth };
        Ok(client.set_redirect_uri(redirect).set_auth_type(how))
    }

    /// That the token was made for this client, together with the access token that it came with.
    fn check_parties(&self, checked: &Checked, answer: &CoreTokenResponse) -> Result<(), IdentityError> {
        let refuse =
            |problem: &str| Err(IdentityError::Token { provider: self.settings.name.clone(), problem: problem.into() });
        if text(&checked.claims, "azp").is_some_and(|party| party != self.settings.client_id) {
            return refuse("it was made for another client (`azp`)");
        }
        let Some(expected) = text(&checked.claims, "at_hash") else { return Ok(()) };
        let (Ok(algorithm), Ok(key)) = (checked.token.signing_alg(), checked.token.signing_key(&checked.verifier))
        else {
            return refuse("its signature cannot be taken");
        };
        match AccessTokenHash::from_token(answer.access_token(), algorithm, key) {
            Ok(found) if found == AccessTokenHash::new(expected) => Ok(()),
            _ => refuse("the access token beside it belongs to another (`at_hash`)"),
        }
    }

    /// Many providers put into the token little more than the subject; the rest is asked for.
    fn complete(&self, client: &Client, mut claims: Claims, access: &AccessToken) -> Result<Claims, IdentityError> {
        let settings = &self.settings;
        let wanted = ["name", "email", settings.groups_claim.as_str()].into_iter();
        let mut wanted = wanted.chain(settings.username_claim.as_deref()).chain(self.required.names());
        let (true, Some(url)) = (wanted.any(|claim| !claims.contains_key(claim)), client.user_info_url()) else {
            return Ok(claims);
        };
        let url = url.as_str();
        let subject = text(&claims, "sub").unwrap_or_default();
        // The library would make a header of it unseen.
        if !access.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.nonsense(url, "its access token holds what no header may hold"));
        }
        let ask = |request| self.remote.http.ask(request);
        let found: UserInfoClaims<Rest, CoreGenderClaim> = client
            .user_info(access.clone(), Some(SubjectIdentifier::new(subject)))
            .map_err(|error| self.nonsense(url, &error.to_string()))?
            .request(&ask)
            .map_err(|error| match error {
                UserInfoError::Request(error) => error.at(&settings.name, url),
                UserInfoError::Response(status, ..) => HttpError::Status(status.as_u16()).at(&settings.name, url),
                other => self.nonsense(url, &other.to_string()),
            })?;
        let Ok(Value::Object(more)) = serde_json::to_value(&found) else {
            return Err(self.nonsense(url, "it is no object"));
        };
        // Whether an e-mail is verified is said of the one that stands beside it.
        let other = claims.get("email").is_some_and(|mail| more.get("email") != Some(mail));
        for (claim, value) in more {
            if !(other && claim == "email_verified") {
                claims.entry(claim).or_insert(value);
            }
        }
        Ok(claims)
    }

    fn identity(&self, claims: &Claims) -> Result<Identity, IdentityError> {
        let subject = text(claims, "sub").ok_or_else(|| self.outsider("there is no `sub`".into()))?;
        let verified = match claims.get("email_verified") {
            None | Some(Value::Null) => self.settings.trust_email,
            Some(said) => *said == true || said.as_str().is_some_and(|said| said.eq_ignore_ascii_case("true")),
        };
        // Nothing that could be read as more than one address.
        let is_address =
            |mail: &String| mail.contains('@') && !mail.contains(|c: char| c.is_control() || " <>,;\"".contains(c));
        let email = text(claims, "email").filter(is_address).filter(|_| verified);
        let username = self.settings.username_claim.as_ref().and_then(|claim| text(claims, claim));
        let name = text(claims, "name").or_else(|| username.clone()).or_else(|| email.clone());
        let groups: BTreeSet<String> = texts(claims, &self.settings.groups_claim).into_iter().collect();
        Ok(Identity {
            issuer: self.settings.issuer.clone(),
            name: plain(name.as_ref().unwrap_or(&subject)),
            subject,
            username,
            email,
            groups: groups.into_iter().collect(),
        })
    }

    fn refused(&self, error: &str, description: Option<&str>) -> IdentityError {
        let problem = match description {
            Some(description) => format!("{} ({})", plain(error), plain(description)),
            None => plain(error),
        };
        IdentityError::Refused { provider: self.settings.name.clone(), problem }
    }

    fn nonsense(&self, url: &str, problem: &str) -> IdentityError {
        let provider = self.settings.name.clone();
        IdentityError::Answer { provider, url: plain(url), problem: plain(problem) }
    }

    fn outsider(&self, problem: String) -> IdentityError {
        IdentityError::Claims { provider: self.settings.name.clone(), problem }
    }
}

impl Identity {
    /// The person as one who acts: `oidc:ISSUER:SUBJECT` (the issuer without `https://`), `email:…`, `user:…` and an
    /// `oidc-group:…` for each group, as far as the provider vouches for them.
    ///
    /// Its name is what the provider keeps apart from other people's, since approvals are counted by name: the user name, else the
    /// e-mail, else the subject. [`Identity::name`] is for people to read and could be anybody's.
    pub fn actor(&self) -> Actor {
        let issuer = self.issuer.split_once("://").map_or(self.issuer.as_str(), |(_, rest)| rest);
        let mut identities = vec![format!("oidc:{}:{}", issuer.trim_end_matches('/'), self.subject)];
        identities.extend(self.username.iter().map(|name| format!("user:{name}")));
        identities.extend(self.email.iter().map(|mail| format!("email:{mail}")));
        identities.extend(self.groups.iter().map(|group| format!("oidc-group:{group}")));
        let name = self.username.as_ref().or(self.email.as_ref()).unwrap_or(&self.subject);
        Actor { name: plain(name), identities, verified: true }
    }
}
