//! When something is due: patterns of cron over time zones, what becomes of times that were missed, freezes and maintenance windows.
//! All of it follows from its arguments, with the rules of time zones that are in the binary.
//!
//! Where clocks change, times are due as in Vixie's cron. A pattern whose fields for minute and hour both name times (`30 2 * * *`)
//! is due once a day: a time that is skipped is due at the first instant after the gap, and one that comes twice at its first. A
//! pattern with a `*` in one of them (`*/15 * * * *`) goes by what the clock on the wall shows: what it never shows is not due, and
//! what it shows twice is due twice.

mod missed;
mod window;

pub use missed::{Decision, LATE, Look, decide};
pub use window::{freeze_at, thaw};

use crate::Micros;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The rules that came with the binary.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Why something is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "`{cron}` has {count} fields: give five (minute, hour, day of the month, month, day of the week), or six with seconds first"
    )]
    Fields { cron: String, count: usize },
    #[error("`{value}` is no {field}: {why}")]
    Field { field: &'static str, value: String, why: String },
    #[error("`{cron}` is never due")]
    Never { cron: String },
    #[error("there is no time zone `{0}`: give a name of the IANA database such as `Asia/Tokyo`, or `UTC`")]
    Zone(String),
}

/// The time zone of an IANA name.
///
/// # Errors
/// [`ScheduleError::Zone`].
pub fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    ZONES.get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))
}

/// Names of all time zones, for suggestions.
pub fn zone_names() -> impl Iterator<Item = String> {
    ZONES.available().map(|name| name.to_string())
}

/// A pattern of cron in a time zone.
#[derive(Debug, Clone)]
pub struct Times {
    cron: Cron,
    zone: TimeZone,
    /// What the clock shows counts, not that it comes once a day.
    wildcard: bool,
}

/// Names of the fields of a pattern, with the smallest and the greatest value of each.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, `L` for the last, `15W` for the working day nearest to the 15th"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT, `5L` for the last Friday, `5#2` for the second"),
];

impl Times {
    /// Reads a pattern of five fields, of six with seconds first, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`; and an
    /// IANA name.
    ///
    /// # Errors
    /// Which field is wrong and what it may be, that no time ever matches, or that there is no such zone.
    pub fn parse(cron: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let zone = zone(timezone)?;
        let named = match cron.trim().to_ascii_lowercase().as_str() {
            "@hourly" => Some("0 * * * *"),
            "@daily" => Some("0 0 * * *"),
            "@weekly" => Some("0 0 * * SUN"),
            "@monthly" => Some("0 0 1 * *"),
            "@yearly" | "@annually" => Some("0 0 1 1 *"),
            _ => None,
        };
        let mut fields: Vec<&str> = named.unwrap_or(cron).split_whitespace().collect();
        let count = fields.len();
        if count == 5 {
            fields.insert(0, "0");
        }
        let Ok(fields) = <[&str; 6]>::try_from(fields) else {
            return Err(ScheduleError::Fields { cron: cron.to_owned(), count });
        };
        for (at, (field, may)) in FIELDS.iter().enumerate() {
            let mut alone = ["*"; 6];
            alone[at] = fields[at];
            // These are ways of writing of other crons, with other meanings.
            let foreign = fields[at].contains(['?', '+', '@']);
            if foreign || parser(false).parse(&alone.join(" ")).is_err() {
                let why = format!("it may be {may}, `*`, a list `1,2`, a range `1-5`, or steps `*/5`");
                return Err(ScheduleError::Field { field, value: fields[at].to_owned(), why });
            }
        }
        // As Vixie's: a day has to be in both fields where one of them is all days, also with steps; otherwise one suffices.
        let both = fields[3].starts_with('*') || fields[5].starts_with('*');
        let never = || ScheduleError::Never { cron: cron.to_owned() };
        let parsed = parser(both).parse(&fields.join(" ")).map_err(|_| never())?;
        let wildcard = fields[1].starts_with('*') || fields[2].starts_with('*');
        let times = Self { cron: parsed, zone, wildcard };
        times.next_civil(DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true).ok_or_else(never)?;
        Ok(times)
    }

    /// The first time after `after` at which it is due; `None` beyond the calendar.
    pub fn next_after(&self, after: Micros) -> Option<Micros> {
        // A due time is a whole second: the first one after a second is the first one after all of it.
        let after = Timestamp::from_second(after.div_euclid(1_000_000)).ok()?;
        let next = if self.wildcard { self.next_shown(after) } else { self.next_fixed(after) };
        next.map(Timestamp::as_microsecond)
    }

    /// All times after `from` until `to`, `to` included.
    pub fn due_between(&self, from: Micros, to: Micros) -> impl Iterator<Item = Micros> + '_ {
        let next = move |at: &Micros| self.next_after(*at).filter(|due| *due <= to);
        std::iter::successors(next(&from), next)
    }

    /// The next times after `after`.
    pub fn upcoming(&self, after: Micros, count: usize) -> Vec<Micros> {
        self.due_between(after, Micros::MAX).take(count).collect()
    }

    fn next_civil(&self, after: DateTime, inclusive: bool) -> Option<DateTime> {
        self.cron.find_next_occurrence(&after, inclusive).ok()
    }

    /// Of a pattern that names hour and minute: each time of the calendar is one instant.
    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_offset(after).to_datetime(after);
        // Within an hour that comes again, times were due when it came first.
        loop {
            civil = self.next_civil(civil, false)?;
            let due = self.instant(civil)?;
            if due > after {
                return Some(due);
            }
        }
    }

    /// The one instant of a time of the calendar: its first, or the first after the gap that it is in.
    fn instant(&self, civil: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                let before_the_gap = after.to_timestamp(civil).ok()?;
                self.zone.following(before_the_gap).next().map(|change| change.timestamp())
            }
        }
    }

    /// Of a pattern with `*`: whatever the clock shows, from one change of it to the next.
    fn next_shown(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut at, mut inclusive) = (after, false);
        loop {
            let offset = self.zone.to_offset(at);
            let civil = self.next_civil(offset.to_datetime(at), inclusive)?;
            let due = offset.to_timestamp(civil).ok()?;
            match self.zone.following(at).next() {
                Some(change) if change.timestamp() <= due => (at, inclusive) = (change.timestamp(), true),
                _ => return Some(due),
            }
        }
    }
}

/// `both`: whether a day has to match the day of the month and the day of the week.
fn parser(both: bool) -> CronParser {
    CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).dom_and_dow(both).build()
}

/// How much later than `due` a start is, at most `up_to` (microseconds): always the same for the same names and time, so that
/// servers agree, and spread over all of them.
pub fn jitter(project: &str, operation: &str, schedule: &str, due: Micros, up_to: Micros) -> Micros {
    let Ok(up_to) = u64::try_from(up_to) else { return 0 };
    let mut digest = Sha256::new();
    for part in [project, operation, schedule] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest.update(due.to_be_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let number = digest[..8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    // Jitter is hours at most: the remainder favours no part of it that could be noticed.
    Micros::try_from(number % up_to.saturating_add(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
