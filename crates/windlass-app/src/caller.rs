//! Who asks, and whether they may.

use crate::access::authorise;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use windlass_model::access::{Answer, Permission, Question, Rules, Subject, TokenScope};
use windlass_model::approval::Actor;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;

/// Somebody who was let in, for the time of one request.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    /// What the API token that is used is limited to; `None` where somebody acts in person.
    pub token: Option<TokenScope>,
    /// Goes into every event that the request leaves.
    pub correlation: String,
    /// The id of the run that the request creates, where another try of the same request may have created it.
    pub creates: Option<RunId>,
}

impl Caller {
    /// Refuses unless the caller may. What the caller may not even see is not found.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Forbidden`], with the reasons.
    pub async fn must(&self, installation: &Installation, permission: Permission, subject: &Subject) -> AppResult<()> {
        let answer = self.may(installation, permission, subject).await?;
        if answer.allowed {
            return Ok(());
        }
        if answer.hides() {
            return Err(not_found(&subject.kind, &subject.name));
        }
        if permission != Permission::MetricsRead {
            let data = serde_json::json!({ "permission": permission, "because": answer.because });
            let of = subject.project.as_deref().unwrap_or_default();
            let name = format!("{} {}", subject.kind, subject.name);
            let store = installation.store(self, of);
            store.event_tell("access.refused", &name, data, &self.actor.to_string(), None).await?;
        }
        let diagnostic = Diagnostic::error(
            "WL840",
            format!("{} may not: {permission} on {} {}", self.actor.name, subject.kind, subject.name),
        )
        .detail(answer.because.join("\n"))
        .help(format!("`windlass access explain {permission}` says what would give it"));
        Err(AppError::new(ErrorKind::Forbidden, diagnostic))
    }

    /// Whether the caller may, and why.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn may(
        &self,
        installation: &Installation,
        permission: Permission,
        subject: &Subject,
    ) -> AppResult<Answer> {
        let at = installation.common.store.now().await?;
        let question = Question { actor: &self.actor, token: self.token.as_ref(), permission, subject };
        let good = subject.project.as_deref().and_then(|name| installation.followed.status(name)?.good.clone());
        let admins = installation.admins();
        Ok(match good {
            Some(good) => {
                let rules = Rules::new(&good.deciding.definitions, &admins);
                authorise(&rules, &good.deciding.policies, &question, at)
            }
            // Without definitions nothing is granted, but to those whom the settings name.
            None => {
                let rules = Rules::server(&admins);
                let read = |read: &Question<'_>| windlass_model::access::decide(read, &rules).allowed;
                windlass_model::access::decide(&question, &rules).shown(&question, read)
            }
        })
    }
}

/// As if it was not there.
pub fn not_found(kind: &str, name: &str) -> AppError {
    let diagnostic = Diagnostic::error("WL841", format!("there is no {kind} `{name}`, or you may not see it"));
    AppError::new(ErrorKind::NotFound, diagnostic)
}
