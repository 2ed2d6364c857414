//! What processes have used, as Linux counts it.

/// Clock ticks that Linux tells programs of are hundredths of a second, whatever the kernel's own are.
const TICK_MS: f64 = 10.0;

/// CPU milliseconds of a process and of its children, also of those that have ended and were waited for; grandchildren that live
/// are not counted.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn tree_ms(pid: u32) -> std::io::Result<f64> {
    let fields = |pid: u32| -> std::io::Result<Vec<String>> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything.
        let rest = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
        Ok(rest.split_whitespace().map(str::to_owned).collect())
    };
    let sum = |fields: &[String], range: std::ops::RangeInclusive<usize>| -> f64 {
        fields.get(range).into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum()
    };
    // Fields 14 to 17 of proc(5): its own time, and that of children that were waited for.
    let mut ticks = sum(&fields(pid)?, 11..=14);
    let parent = pid.to_string();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let child = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(fields);
        // One that has ended meanwhile is counted with its parent.
        if let Some(Ok(child)) = child
            && child.get(1) == Some(&parent)
        {
            ticks += sum(&child, 11..=12);
        }
    }
    Ok(ticks * TICK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_child_used_is_counted_while_it_lives_and_after() {
        let script = "sh -c 'while :; do :; done' & child=$!; read x; kill $child; wait $child; echo ended; read x";
        let mut shell =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut input = shell.stdin.take().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // The shell itself only waits.
        while tree_ms(shell.id()).unwrap() < 100.0 {
            assert!(std::time::Instant::now() < deadline, "nothing is counted of a child that lives");
            std::thread::yield_now();
        }
        input.write_all(b"\n").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "ended");
        assert!(tree_ms(shell.id()).unwrap() >= 100.0, "nothing is counted of a child that has ended");
        drop(input);
        shell.wait().unwrap();
        assert!(tree_ms(shell.id()).is_err());
    }
}
