//! Writes a plan of so many resources to standard output: `cargo run --example plan -- 10000`.

use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resources = std::env::args().nth(1).map_or(Ok(10_000), |n| n.parse())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer(&mut out, &windlass_testkit::plan::synthetic_plan(resources, 1))?;
    Ok(out.flush()?)
}
