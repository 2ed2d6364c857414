//! `ci review`, `ci apply`: in a job of somebody else's CI, without a server.

use super::runs::{apply_review, conclude, drive, show_review_as};
use crate::views::review::View;
use crate::{Answer, Context, print, views};
use clap::Subcommand;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use windlass_app::ci::{self, Environment, Job};
use windlass_app::error::{AppResult, internal};
use windlass_app::project::Checkout;
use windlass_app::review::{self, Selection};
use windlass_app::runs;
use windlass_app::service::Service;
use windlass_app::settings::StateDirectory;
use windlass_connect::forge::ForgeKind;
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::id::RunId;
use windlass_model::review::document::Document;
use windlass_model::run::RunState;
use windlass_render::markdown::{self, Forge, Options};

#[derive(Debug, Subcommand)]
pub enum CiCommand {
    /// Review the change of this job, and write the comment and the statuses of the change.
    #[command(after_help = "\
Examples:
  windlass ci review
  windlass ci review --out plan      and pass the directory on to the job that applies

The change is found in the environment of the job; the token in GITHUB_TOKEN, GITLAB_TOKEN, GITEA_TOKEN, BITBUCKET_TOKEN or
WINDLASS_FORGE_TOKEN. Without one, nothing is written to the change.")]
    Review {
        /// Put the record of the review there, for `windlass ci apply`. WINDLASS_KEY_FILE names the key that both jobs share.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Review a change from a fork, whose code runs here with what this job may do.
        #[arg(long)]
        fork: bool,
    },
    /// Apply what another job reviewed, with the approvals that its change has.
    #[command(after_help = "\
Examples:
  windlass ci apply --from plan
  windlass ci apply --from plan --out record      and keep what was done")]
    Apply {
        /// Where `windlass ci review --out` put the record.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Put the record of the apply there.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Name a stack instance that may be destroyed as a whole (may be given several times).
        #[arg(long, value_name = "INSTANCE")]
        confirm: Vec<String>,
    },
}

pub fn dispatch(cx: &Context, command: CiCommand) -> Answer {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let environment = Environment::read(&variable)?;
    prepare(cx, &command, variable("WINDLASS_KEY_FILE").map(PathBuf::from))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(crate::STACK)
        .build()
        .map_err(internal)?;
    let result = runtime.block_on(async {
        let service = Arc::new(Service::open(&cx.directory, Some(crate::policy_worker())).await?);
        let answer = run(cx, &service, environment, command).await;
        service.store.close().await;
        answer
    });
    // A policy that does not end must not keep the program from ending.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Puts the key and the record of another job in place, before anything is opened.
fn prepare(cx: &Context, command: &CiCommand, key: Option<PathBuf>) -> AppResult<()> {
    let passed_on = match command {
        CiCommand::Review { out, .. } => out.is_some(),
        CiCommand::Apply { .. } => true,
    };
    if passed_on && key.is_none() {
        return Err(ci::no_key());
    }
    let directory = StateDirectory::create(&Checkout::open(&cx.directory)?.root)?;
    if let Some(file) = key {
        ci::key_take(&directory, &cx.directory.join(file))?;
    }
    match command {
        CiCommand::Apply { from, .. } => ci::unpack(&directory, &cx.directory.join(from)),
        CiCommand::Review { .. } => Ok(()),
    }
}

async fn run(cx: &Context, service: &Arc<Service>, environment: Environment, command: CiCommand) -> Answer {
    let job = Job::open(environment).await?;
    match (job.environment.change, job.is_heard()) {
        (Some(number), true) => eprintln!("{}: change {number}", job.environment.ci),
        (Some(number), false) => {
            let summary = format!("nothing is written to change {number}: there is no token");
            let help = format!("put one into {}; docs/ci.md says what it has to be allowed", job.environment.token_in);
            eprint!("{}", views::diagnostic::render(cx.err, &Diagnostic::warning("WL784", summary).help(help)));
        }
        (None, _) => eprintln!("{}: a job of no change", job.environment.ci),
    }
    match command {
        CiCommand::Review { out, fork } => {
            ci::fork_check(job.change.as_ref(), fork)?;
            review(cx, service, &job, out).await
        }
        CiCommand::Apply { out, confirm, .. } => apply(cx, service, &job, out, confirm).await,
    }
}

async fn review(cx: &Context, service: &Arc<Service>, job: &Job, out: Option<PathBuf>) -> Answer {
    let selection = Selection::Affected { base: job.base(service.checkout.git()?)? };
    let around = job.around(service.checkout.git()?).await?;
    let Some(id) = review::review_create(service, &selection, Vec::new(), around).await? else {
        let document = review::document_of_nothing(service)?;
        View::plain().show(cx, &document)?;
        let options = options(job.kind(), &document.project);
        let checks = ci::checks_of_nothing(job.environment.link.as_deref());
        job.tell(markdown::marker(&options), markdown::render(&document, &options).text, checks).await?;
        return Ok(true);
    };
    let record = drive(cx, service, &id).await?;
    if record.state != RunState::Succeeded {
        return conclude(cx, service, &record).await;
    }
    let is_positive = show_review_as(cx, service, &id, &View::plain(), here).await?;
    keep(cx, service, out).await?;
    tell(service, job, &id, None).await?;
    Ok(is_positive)
}

async fn apply(cx: &Context, service: &Arc<Service>, job: &Job, out: Option<PathBuf>, confirm: Vec<String>) -> Answer {
    ci::key_check(service).await?;
    let id = runs::review_find(service, None).await?;
    let taken = job.approvals_take(service, &id).await?;
    for unseen in &taken.unseen {
        let unseen = Diagnostic { severity: Severity::Warning, ..unseen.clone() };
        eprint!("{}", views::diagnostic::render(cx.err, &unseen));
    }
    for person in &taken.people {
        eprintln!("Approved by {}", crate::terminal::clean(person));
    }
    let applied = apply_review(cx, service, Some(id.as_str()), true, confirm).await;
    // Also of one that failed: it says what was begun.
    keep(cx, service, out).await?;
    let applied = applied?;
    tell(service, job, &id, Some(applied)).await?;
    Ok(applied)
}

/// What the reader does next is said as it is done here.
fn here(document: &mut Document) {
    let headline = &mut document.headline;
    let Some(command) = headline.command.take() else { return };
    if command.contains("approve") {
        headline.todo = "approve the change, then run the job that applies it".into();
    } else if command.contains("apply") {
        headline.todo = "run the job that applies it".into();
        headline.command = Some("windlass ci apply".into());
    }
}

/// Puts the record where the next job finds it.
async fn keep(cx: &Context, service: &Service, out: Option<PathBuf>) -> AppResult<()> {
    let Some(out) = out else { return Ok(()) };
    let file = ci::pack(service, &cx.directory.join(out)).await?;
    if !cx.json {
        print(&format!("Kept in {}\n", file.display()));
    }
    Ok(())
}

/// `applied` is how an apply ended, where there was one.
async fn tell(service: &Service, job: &Job, id: &RunId, applied: Option<bool>) -> AppResult<()> {
    let Some(row) = windlass_app::waivers::review_get(service, id).await?.filter(|_| job.is_heard()) else {
        return Ok(());
    };
    let mut document = review::document(service, &row).await?;
    here(&mut document);
    let mut options = options(job.kind(), &document.project);
    let link = job.environment.link.as_deref();
    options.note = link.map(|link| format!("Made by a job of {}: {link}", job.environment.ci));
    let checks = match applied {
        None => ci::checks(&row.review, link),
        Some(applied) => ci::checks_of_apply(&row.review, applied, link),
    };
    job.tell(markdown::marker(&options), markdown::render(&document, &options).text, checks).await
}

fn options(kind: ForgeKind, project: &str) -> Options {
    let forge = match kind {
        ForgeKind::Github => Forge::GitHub,
        ForgeKind::Gitlab => Forge::GitLab,
        ForgeKind::Gitea | ForgeKind::Forgejo => Forge::Gitea,
        ForgeKind::Bitbucket | ForgeKind::BitbucketDataCenter => Forge::Bitbucket,
    };
    // A server has a comment of its own.
    Options { key: format!("ci/{project}"), ..forge.options() }
}
