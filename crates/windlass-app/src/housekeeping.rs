//! What a server does beside its work: packs the logs of runs that have ended, and removes what is older than it has to be. Of all
//! servers of a database one does it at a time; any of them may be killed at any point of it.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::ITSELF;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_store::{Artefact, ArtefactKind, Store, Unread};

/// Tickets that say who does it, and where what was found is written.
const TICKET: &str = "housekeeping";
const SCOPE: &str = "installation";
const FOUND: &str = "stored";

/// What somebody began to write or remove so long ago is not gone on with by them, µs: a day.
const FORGOTTEN: Micros = 86_400_000_000;

/// In each so many rounds what there is of each kind is counted: of millions that takes a while.
const COUNT: u64 = 15;

/// How long something is kept: whole days, weeks, hours, minutes or seconds, such as `90d`; or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Retention(Option<(u32, Unit)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
}

impl Unit {
    const ALL: [(char, Self); 5] =
        [('s', Self::Second), ('m', Self::Minute), ('h', Self::Hour), ('d', Self::Day), ('w', Self::Week)];

    fn seconds(self) -> Micros {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        }
    }
}

impl Retention {
    const fn days(number: u32) -> Self {
        Self(Some((number, Unit::Day)))
    }

    /// µs; `None` for ever.
    fn micros(self) -> Option<Micros> {
        self.0.map(|(number, unit)| Micros::from(number).saturating_mul(unit.seconds()).saturating_mul(1_000_000))
    }
}

impl TryFrom<String> for Retention {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self(None));
        }
        let unit = text.chars().last().and_then(|last| Unit::ALL.into_iter().find(|(letter, _)| *letter == last));
        let number = |letter| text.strip_suffix::<char>(letter)?.parse::<u32>().ok().filter(|number| *number > 0);
        match unit.and_then(|(letter, unit)| Some((number(letter)?, unit))) {
            Some(found) => Ok(Self(Some(found))),
            None => Err(format!("`{text}` is no time to keep something for: write `90d`, `2w`, `12h` or `forever`")),
        }
    }
}

/// `90 days`.
impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((number, unit)) = self.0 else { return f.write_str("ever") };
        let name = match unit {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
        };
        write!(f, "{number} {name}{}", if number == 1 { "" } else { "s" })
    }
}

/// How long what steps leave is kept. What is recorded of runs, and their reviews and events, stay for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retentions {
    /// After the end of the run.
    pub logs: Retention,
    /// Plans go with the end of their run; this is for those whose run does not end.
    pub plans: Retention,
    pub states: Retention,
}

impl Default for Retentions {
    fn default() -> Self {
        Self { logs: Retention::days(90), plans: Retention::days(7), states: Retention::days(365) }
    }
}

/// `WINDLASS_HOUSEKEEPING_SECONDS`: how often it is looked what there is to do, and how long after its end a run is left alone; 60
/// when it is not set.
///
/// # Errors
/// It is not well formed.
pub fn pace(variable: impl Fn(&str) -> Option<OsString>) -> AppResult<Duration> {
    let name = "WINDLASS_HOUSEKEEPING_SECONDS";
    match variable(name).filter(|value| !value.is_empty()) {
        None => Ok(Duration::from_secs(60)),
        Some(value) => match value.to_str().and_then(|text| text.parse().ok()) {
            Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
            _ => {
                let summary = format!("{name} is set to `{}`", value.to_string_lossy());
                let diagnostic = Diagnostic::error("WL906", summary).help("it is a whole number from 1 to 86400");
                Err(AppError::new(ErrorKind::Usage, diagnostic))
            }
        },
    }
}

/// What there is of a kind, and what was removed by age since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub count: i64,
    pub bytes: i64,
    pub removed: i64,
    pub removed_bytes: i64,
}

/// What was found when it was last looked; empty before that.
///
/// # Errors
/// The database cannot be read.
pub async fn stored(store: &Store) -> AppResult<BTreeMap<String, Stored>> {
    let found = store.of_project("").kv_get(SCOPE, FOUND).await?;
    Ok(found.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// Does all of it now and then until `stop` is cancelled. `told` hears what keeps it from that, once; it tries again all the time.
pub async fn run(
    store: Store,
    retentions: Retentions,
    every: Duration,
    stop: CancellationToken,
    told: impl Fn(&AppError) + Send,
) {
    let keeper = Housekeeper { store: store.of_project(""), retentions, every, stop: stop.clone() };
    let mut before = None;
    for number in 0_u64.. {
        if stop.is_cancelled() {
            return;
        }
        let failure = keeper.round(number % COUNT == 0).await.err();
        let now = failure.as_ref().map(ToString::to_string);
        if let Some(failure) = failure.filter(|_| now != before) {
            told(&failure);
        }
        before = now;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
}

struct Housekeeper {
    store: Store,
    retentions: Retentions,
    every: Duration,
    stop: CancellationToken,
}

impl Housekeeper {
    /// All that there is to do now. What there is of each kind is counted when something was removed, or when it is asked for.
    async fn round(&self, counts: bool) -> AppResult<()> {
        let mut removed = BTreeMap::new();
        let logs = self.alone("logs").await?;
        if logs {
            self.pack().await?;
            self.remove_logs(&mut removed).await?;
        }
        // Servers with directories of their own each remove what is in theirs.
        let place = self.store.artefact_place().to_owned();
        let artefacts = self.alone(&place).await?;
        if artefacts {
            self.remove_artefacts(&mut removed).await?;
        }
        if logs && (counts || !removed.is_empty()) {
            self.count(&removed).await?;
        }
        for name in
            [("logs", logs), (place.as_str(), artefacts)].into_iter().filter_map(|(name, ours)| ours.then_some(name))
        {
            self.store.ticket_take(TICKET, name).await?;
        }
        Ok(())
    }

    /// Until when (µs) this server may go on alone.
    async fn until(&self) -> AppResult<Micros> {
        let longest = self.every.max(Duration::from_secs(5)) * 2;
        Ok(self.store.now().await? + Micros::try_from(longest.as_micros()).unwrap_or(Micros::MAX / 2))
    }

    /// Whether this is for this server to do now: of several that ask, one is told so.
    async fn alone(&self, what: &str) -> AppResult<bool> {
        Ok(self.store.ticket_put(TICKET, what, "", self.until().await?).await?)
    }

    /// It takes longer.
    async fn on(&self, what: &str) -> AppResult<()> {
        self.store.ticket_renew(TICKET, what, "", self.until().await?).await?;
        Ok(())
    }

    async fn pack(&self) -> AppResult<()> {
        let rest = Micros::try_from(self.every.as_micros()).unwrap_or(Micros::MAX);
        let before = self.store.now().await? - rest;
        let mut after = None;
        loop {
            let runs = self.store.log_unpacked(before, after.as_ref(), 100).await?;
            let Some((last, _)) = runs.last() else { return Ok(()) };
            after = Some(last.clone());
            for (run, ended) in &runs {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                self.store.log_pack(run, *ended).await?;
                self.on("logs").await?;
            }
        }
    }

    async fn remove_logs(&self, removed: &mut BTreeMap<&'static str, Stored>) -> AppResult<()> {
        let Some(kept) = self.retentions.logs.micros() else { return Ok(()) };
        let now = self.store.now().await?;
        let note = note("This log", now, &format!("logs are kept for {} after the end of a run", self.retentions.logs));
        loop {
            let runs = self.store.log_expired(now - kept).await?;
            if runs.is_empty() || self.stop.is_cancelled() {
                return Ok(());
            }
            for run in &runs {
                let freed = self.store.log_remove(run, &note, ITSELF).await?;
                let sum = removed.entry(ArtefactKind::Log.as_str()).or_default();
                sum.removed += 1;
                sum.removed_bytes += i64::try_from(freed).unwrap_or(i64::MAX);
                self.on("logs").await?;
            }
        }
    }

    async fn remove_artefacts(&self, removed: &mut BTreeMap<&'static str, Stored>) -> AppResult<()> {
        let now = self.store.now().await?;
        for artefact in self.store.artefact_unread(Unread::Unfinished { before: now - FORGOTTEN }).await? {
            self.store.artefact_abandon(&artefact).await?;
        }
        // What a step left is looked at with its log.
        for (kind, kept) in [
            (ArtefactKind::Plan, self.retentions.plans),
            (ArtefactKind::State, self.retentions.states),
            (ArtefactKind::File, self.retentions.logs),
        ] {
            let Some(age) = kept.micros() else { continue };
            loop {
                let old = self.store.artefact_unread(Unread::Older { kind, before: now - age }).await?;
                if old.is_empty() || self.stop.is_cancelled() {
                    break;
                }
                for artefact in &old {
                    self.remove(artefact, kept, now).await?;
                    let sum = removed.entry(kind.as_str()).or_default();
                    sum.removed += 1;
                    sum.removed_bytes += artefact.size;
                    self.on(self.store.artefact_place()).await?;
                }
            }
        }
        // What somebody has yet to deal with is kept however old it is.
        if let Some(age) = self.retentions.states.micros() {
            let (kind, before) = (ArtefactKind::Errored, now - age);
            for artefact in self.store.artefact_unread(Unread::Older { kind, before }).await? {
                let store = self.store.of_project(&artefact.project);
                if !crate::recover::is_quarantined(&store, &artefact.of.subject).await? {
                    self.remove(&artefact, self.retentions.states, now).await?;
                }
            }
        }
        Ok(())
    }

    async fn remove(&self, artefact: &Artefact, kept: Retention, now: Micros) -> AppResult<()> {
        let note = note("It", now, &format!("{}s are kept for {kept}", artefact.of.kind.as_str()));
        self.store.artefact_remove(artefact, Some(&note)).await?;
        let data = serde_json::json!({ "id": artefact.id, "bytes": artefact.size, "note": note });
        let store = self.store.of_project(&artefact.project);
        Ok(store.event_tell("artefact.removed", &artefact.of.to_string(), data, ITSELF, None).await?)
    }

    /// Writes down what there is, for metrics: to sum it up whenever they are asked for would be too much.
    async fn count(&self, removed: &BTreeMap<&'static str, Stored>) -> AppResult<()> {
        let mut all = stored(&self.store).await?;
        for kind in ArtefactKind::ALL {
            let sum = all.entry(kind.as_str().to_owned()).or_default();
            (sum.count, sum.bytes) = (0, 0);
            if let Some(more) = removed.get(kind.as_str()) {
                sum.removed += more.removed;
                sum.removed_bytes += more.removed_bytes;
            }
        }
        for (kind, count, bytes) in self.store.artefact_sums().await? {
            let sum = all.entry(kind.as_str().to_owned()).or_default();
            (sum.count, sum.bytes) = (count, bytes);
        }
        let text = serde_json::to_string(&all).map_err(crate::error::internal)?;
        Ok(self.store.kv_set(SCOPE, FOUND, &text).await?)
    }
}

/// What stands in the place of what was removed.
fn note(what: &str, now: Micros, rule: &str) -> String {
    let date =
        Timestamp::from_microsecond(now).map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d").to_string());
    format!("{what} was removed on {date}: {rule}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use windlass_model::id::RunId;
    use windlass_model::run::{Cost, Flow, Repeat, Retry, RunPlan, RunState, StepSpec, When, Work};
    use windlass_store::{NewArtefact, StoreError};

    #[test]
    fn a_retention_is_a_number_with_a_unit() {
        let check = |text: &str, want: Option<(&str, Option<Micros>)>| {
            let found = Retention::try_from(text.to_owned()).ok();
            let found = found.map(|found| (found.to_string(), found.micros().map(|micros| micros / 1_000_000)));
            assert_eq!(found, want.map(|(shown, seconds)| (shown.to_owned(), seconds)), "{text}");
        };
        check("90d", Some(("90 days", Some(7_776_000))));
        check("1w", Some(("1 week", Some(604_800))));
        check("12h", Some(("12 hours", Some(43_200))));
        check("5m", Some(("5 minutes", Some(300))));
        check("1s", Some(("1 second", Some(1))));
        check("forever", Some(("ever", None)));
        check("4294967295w", Some(("4294967295 weeks", Some(i64::MAX / 1_000_000))));
        for wrong in ["", "d", "90", "0d", "-1d", "1.5d", "90 d", "90D", "90é", "never", "4294967296d"] {
            check(wrong, None);
        }
        assert_eq!(pace(|_| None).unwrap(), Duration::from_secs(60));
        assert_eq!(pace(|_| Some("1".into())).unwrap(), Duration::from_secs(1));
        assert_eq!(pace(|_| Some("0".into())).unwrap_err().diagnostics[0].code, "WL906");
    }

    fn plan() -> RunPlan {
        let step = StepSpec {
            id: "a".into(),
            title: "a".into(),
            after: vec![],
            when: When::Succeeded,
            work: Work { driver: "d".into(), input: serde_json::Value::Null },
            repeat: Repeat::Idempotent,
            timeout: None,
            retry: Retry::NEVER,
            locks: vec![],
            cost: Cost::NONE,
            labels: vec![],
            flow: Flow::default(),
        };
        RunPlan {
            kind: "test".into(),
            title: "t".into(),
            input: serde_json::Value::Null,
            steps: vec![step],
            ..RunPlan::default()
        }
    }

    #[tokio::test]
    async fn a_round_packs_what_has_ended_and_removes_what_is_old() {
        let directory = tempfile::tempdir().unwrap();
        let day = 86_400_000_000;
        let clock = Arc::new(AtomicI64::new(day * 1000));
        let store = Store::open_with(&directory.path().join("w.db"), Some(clock.clone())).await.unwrap();
        let shop = store.of_project("shop");
        let run = shop.run_create(&plan(), "me").await.unwrap();
        shop.log_append(&run, &"a".into(), 1, b"something was said").await.unwrap();
        shop.run_set_state(&run, RunState::Queued, RunState::Running, None).await.unwrap();
        let put = async |kind| {
            let of = NewArtefact { kind, run: run.clone(), subject: "net".into(), number: 0 };
            shop.artefact_put(&of, b"12345".to_vec()).await.unwrap()
        };
        let (plan, state, input) =
            (put(ArtefactKind::Plan).await, put(ArtefactKind::State).await, put(ArtefactKind::Input).await);
        let every = Duration::from_secs(60);
        let keeper = Housekeeper {
            store: store.clone(),
            retentions: Retentions::default(),
            every,
            stop: CancellationToken::new(),
        };
        let log = async |run: &RunId| {
            let chunks = store.log_read(run, &"a".into(), 0, 10).await.unwrap();
            String::from_utf8(chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()).unwrap()
        };
        let sums = async || {
            let found = stored(&store).await.unwrap();
            let of = |kind: ArtefactKind| found.get(kind.as_str()).copied().unwrap_or_default();
            let (logs, plans) = (of(ArtefactKind::Log), of(ArtefactKind::Plan));
            ((logs.count, logs.removed), (plans.count, plans.removed_bytes))
        };
        keeper.round(true).await.unwrap();
        assert_eq!(sums().await, ((0, 0), (1, 0)), "the run lives");
        shop.run_set_state(&run, RunState::Running, RunState::Succeeded, None).await.unwrap();
        keeper.round(true).await.unwrap();
        assert_eq!(sums().await, ((0, 0), (1, 0)), "it has ended just now");
        clock.fetch_add(60_000_001, Ordering::SeqCst);
        // Another server is at it.
        assert!(keeper.alone("logs").await.unwrap() && !keeper.alone("logs").await.unwrap());
        keeper.round(true).await.unwrap();
        assert_eq!(sums().await, ((0, 0), (1, 0)));
        store.ticket_take(TICKET, "logs").await.unwrap();
        keeper.round(true).await.unwrap();
        assert_eq!(sums().await, ((1, 0), (1, 0)));
        assert_eq!(log(&run).await, "something was said");

        clock.fetch_add(7 * day, Ordering::SeqCst);
        keeper.round(true).await.unwrap();
        assert_eq!(sums().await, ((1, 0), (0, 5)));
        let gone = async |id: &str| match store.artefact_read(id).await {
            Ok(_) => None,
            Err(StoreError::ArtefactGone { why, .. }) => Some(why),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(gone(&plan).await.unwrap(), "It was removed on 1972-10-04: plans are kept for 7 days.");
        assert_eq!((gone(&state).await, gone(&input).await), (None, None));
        clock.fetch_add(83 * day, Ordering::SeqCst);
        keeper.round(true).await.unwrap();
        assert_eq!(sums().await, ((0, 1), (0, 5)));
        assert_eq!(
            log(&run).await,
            "This log was removed on 1972-12-26: logs are kept for 90 days after the end of a run.\n"
        );
        clock.fetch_add(300 * day, Ordering::SeqCst);
        for _ in 0..2 {
            keeper.round(true).await.unwrap();
        }
        assert!(gone(&state).await.unwrap().contains("states are kept for 365 days"));
        assert_eq!(gone(&input).await, None, "it goes when there are newer ones");
        let events = shop.event_list(None, 0, 100).await.unwrap();
        let removed = |kind: &str| events.iter().filter(|event| event.kind == kind && event.project == "shop").count();
        assert_eq!((removed("log.removed"), removed("artefact.removed")), (1, 2));
    }
}
