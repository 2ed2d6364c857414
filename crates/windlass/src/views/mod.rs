//! What people see: each view turns a model into text. Programs read the model itself with `--json`.

pub mod access;
pub mod adopt;
pub mod affected;
pub mod audit;
pub mod decisions;
pub mod diagnostic;
pub mod drift;
pub mod operations;
pub mod progress;
pub mod records;
pub mod review;
pub mod runs;
pub mod schedules;
pub mod stacks;

/// `1 stack`, `2 stacks`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ if noun.ends_with('y') => format!("{number} {}ies", &noun[..noun.len() - 1]),
        _ => format!("{number} {noun}s"),
    }
}

/// A time as people in this time zone read it, e.g. `2026-11-21 09:30:12`.
pub fn time(at: windlass_model::Micros) -> String {
    match jiff::Timestamp::from_microsecond(at) {
        Ok(timestamp) => timestamp.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{at} µs"),
    }
}

/// `850ms`, `12.3s`, `4m05s`, `2h03m`.
pub fn duration(micros: windlass_model::Micros) -> String {
    let millis = micros.max(0) / 1000;
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", millis / 60_000, millis / 1000 % 60),
        _ => format!("{}h{:02}m", millis / 3_600_000, millis / 60_000 % 60),
    }
}

/// `12 B`, `4.2 kB`, `16.7 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// The first twelve digits of a digest or commit.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
