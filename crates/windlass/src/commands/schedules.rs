//! `schedule`: what is asked for in a checkout and of a server alike, and the former's part.

use super::operations::How;
use crate::{Answer, Context, print, print_json, views};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use windlass_app::error::AppResult;
use windlass_app::operations::Local;
use windlass_app::requests::schedules::{ScheduleView, views_of};
use windlass_app::service::Service;
use windlass_model::Micros;

#[derive(Debug, Clone, Subcommand)]
pub enum Schedules {
    /// List schedules: when each is due next, what holds it back, and what became of its last time.
    #[command(after_help = "\
Examples:
  windlass schedule list
  windlass schedule list backup-ledger   those of one operation")]
    List {
        /// Name of an operation.
        operation: Option<String>,
    },
    /// The next five times of each schedule, in the time zone of whoever asks.
    #[command(after_help = "Example:\n  windlass schedule next backup-ledger")]
    Next {
        /// Name of an operation.
        operation: Option<String>,
    },
    /// Pause a schedule. What is due meanwhile is not made up for.
    #[command(after_help = "\
Examples:
  windlass schedule pause backup-ledger nightly --reason 'the disk is being replaced' --until 2026-12-01T06:00:00+01:00
  windlass schedule pause backup-ledger --reason INC-12      the schedule without a name, until somebody resumes it")]
    Pause {
        #[command(flatten)]
        of: Which,
        /// For those who wonder why nothing runs.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Until then, with an offset or `Z` [default: until it is resumed].
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// End the pause of a schedule.
    #[command(after_help = "Example:\n  windlass schedule resume backup-ledger nightly")]
    Resume {
        #[command(flatten)]
        of: Which,
    },
    /// Begin an operation at a time, once. Whether you may is asked again then.
    #[command(after_help = "\
Examples:
  windlass schedule at backup-ledger 2026-12-01T02:00:00+01:00 database=ledger
  windlass run backup-ledger database=ledger --at 2026-12-01T02:00:00+01:00     is the same")]
    At {
        /// Name of the operation.
        operation: String,
        /// With an offset or `Z`.
        #[arg(conflicts_with_all = ["break_glass", "confirm", "skip"])]
        time: String,
        #[command(flatten)]
        how: How,
    },
    /// List what is to begin an operation at a time, or did.
    #[command(after_help = "Example:\n  windlass schedule starts backup-ledger")]
    Starts {
        /// Name of the operation.
        operation: String,
    },
    /// Take back a start at a time that has not begun: one's own, or any with the permission schedule.manage.
    #[command(after_help = "Example:\n  windlass schedule cancel 01k9…")]
    Cancel {
        /// Its id, as `windlass schedule starts` lists it.
        start: String,
    },
    /// Begin the times of the past that did not begin, oldest first.
    #[command(after_help = "\
Example:
  windlass schedule backfill report nightly --after 2026-11-01T00:00:00Z --until 2026-11-08T00:00:00Z --at-once 2")]
    Backfill {
        #[command(flatten)]
        of: Which,
        /// Those after this time, with an offset or `Z`.
        #[arg(long, value_name = "TIME")]
        after: String,
        /// Up to this time, which is to have passed.
        #[arg(long, value_name = "TIME")]
        until: String,
        /// How many may be under way at once.
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        at_once: u32,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Name of the operation.
    pub operation: String,
    /// Name of the schedule; one without a name is `default`.
    #[arg(default_value = "default")]
    pub schedule: String,
}

/// A schedule, as `--json` has it: in a checkout, where nothing is paused and nothing began, as from a server.
#[derive(Debug, Serialize, Deserialize)]
pub struct Schedule {
    pub operation: String,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub enabled: bool,
    /// µs since 1970, as all times here.
    pub next: Vec<Micros>,
    pub pause: Option<Pause>,
    pub freeze: Option<String>,
    pub last: Option<Start>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Pause {
    /// [`Micros::MAX`] where no end was said.
    pub until: Micros,
    pub by: String,
    pub reason: String,
}

/// What is to begin a run, or did.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    pub id: String,
    pub actor: String,
    pub due: Micros,
    pub at: Micros,
    pub state: String,
    pub run: Option<String>,
    pub note: Option<String>,
}

impl From<ScheduleView> for Schedule {
    fn from(view: ScheduleView) -> Self {
        let ScheduleView { operation, name, cron, timezone, enabled, next, freeze, .. } = view;
        Self { operation, name, cron, timezone, enabled, next, pause: None, freeze, last: None }
    }
}

/// The schedules that the files of this checkout say.
///
/// # Errors
/// The files cannot be read.
pub async fn of_checkout(service: &Service) -> AppResult<Vec<Schedule>> {
    let local = Local::load(service)?;
    let source = local.source(service);
    let found = views_of(source.definitions(), service.store.now().await?)?;
    Ok(found.into_iter().map(Schedule::from).collect())
}

/// Shows schedules: of all operations, or of one.
pub fn show(cx: &Context, mut all: Vec<Schedule>, command: &Schedules) -> Answer {
    let (operation, next) = match command {
        Schedules::Next { operation } => (operation, true),
        Schedules::List { operation } => (operation, false),
        _ => (&None, false),
    };
    all.retain(|schedule| operation.as_ref().is_none_or(|name| *name == schedule.operation));
    if cx.json {
        print_json(&all);
    } else if next {
        print(&views::schedules::next(cx.out, &all));
    } else {
        print(&views::schedules::list(cx.out, &all));
    }
    Ok(true)
}
