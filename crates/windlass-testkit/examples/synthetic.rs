//! `synthetic DIR STACKS`: a large repository to measure and profile with.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, stacks] = arguments.as_slice() else { return Err("usage: synthetic DIR STACKS".into()) };
    let made = windlass_testkit::synthetic::write_synthetic(directory.as_ref(), stacks.parse()?, 20_260_105)?;
    println!("{} files, {:.1} MB, {} edges", made.files, made.bytes as f64 / 1e6, made.edges);
    Ok(())
}
