//! Freezes and maintenance windows.

use super::{ScheduleError, zone};
use crate::Micros;
use crate::operation::MaintenanceWindow;
use crate::operation::trigger::Freeze;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

impl Freeze {
    /// Whether it holds back what is done in an environment (`None`: in none) at a time.
    pub fn holds(&self, environment: Option<&str>, at: Micros) -> bool {
        let there = self.environments.is_empty()
            || environment.is_some_and(|environment| self.environments.iter().any(|frozen| frozen == environment));
        there && (self.from..self.to).contains(&at)
    }
}

/// The freeze that holds back what is done in an environment at a time: of several the one that ends last.
pub fn freeze_at<'a>(freezes: &'a [Freeze], environment: Option<&str>, at: Micros) -> Option<&'a Freeze> {
    freezes.iter().filter(|freeze| freeze.holds(environment, at)).max_by_key(|freeze| freeze.to)
}

/// The first time from `at` on that is in no freeze of the environment.
pub fn thaw(freezes: &[Freeze], environment: Option<&str>, at: Micros) -> Micros {
    let mut at = at;
    while let Some(freeze) = freeze_at(freezes, environment, at) {
        at = freeze.to;
    }
    at
}

impl MaintenanceWindow {
    /// # Errors
    /// [`ScheduleError::Zone`]: there is no such zone.
    pub fn check(&self) -> Result<(), ScheduleError> {
        zone(&self.zone).map(drop)
    }

    /// Whether it is open. One whose end is its beginning is open all day.
    ///
    /// # Errors
    /// [`ScheduleError::Zone`].
    pub fn is_open(&self, at: Micros) -> Result<bool, ScheduleError> {
        let zone = zone(&self.zone)?;
        Ok(self.near(&zone, at, -1, 0).any(|(from, to)| (from..to).contains(&at)))
    }

    /// When it is open the next time: `at` itself where it is open then. `None` where it has no days.
    ///
    /// # Errors
    /// [`ScheduleError::Zone`].
    pub fn next_opening(&self, at: Micros) -> Result<Option<Micros>, ScheduleError> {
        let zone = zone(&self.zone)?;
        let next = self.near(&zone, at, -1, 8).find(|(_, to)| *to > at);
        Ok(next.map(|(from, _)| from.max(at)))
    }

    /// Its openings of the days around a time, from `first` to `last` days after it.
    fn near(&self, zone: &TimeZone, at: Micros, first: i64, last: i64) -> impl Iterator<Item = (Micros, Micros)> {
        let today = Timestamp::from_microsecond(at).ok().map(|at| zone.to_datetime(at).date());
        let days = today
            .into_iter()
            .flat_map(move |today| (first..=last).filter_map(move |days| today.checked_add(days.days()).ok()));
        days.filter(|day| self.days.contains(&day.weekday().to_monday_one_offset().unsigned_abs())).filter_map(
            move |day| {
                let end = if self.to > self.from { day } else { day.tomorrow().ok()? };
                Some((instant(zone, day, self.from)?, instant(zone, end, self.to)?))
            },
        )
    }
}

/// A time that is skipped is that after the gap, one that comes twice the first of both.
fn instant(zone: &TimeZone, day: Date, minutes: u16) -> Option<Micros> {
    // 24:00 is the beginning of the next day.
    let (day, minutes) = (day.checked_add(i64::from(minutes / 1440).days()).ok()?, minutes % 1440);
    let time = Time::new(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0).ok()?;
    let instant = zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok()?;
    Some(instant.as_microsecond())
}
