//! Prints what discovery finds below a directory: `cargo run -p windlass-lang --example discover -- DIR`.
fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let start = std::time::Instant::now();
    let tree = windlass_lang::tree::DirTree::open(std::path::Path::new(&directory))?;
    let listed = start.elapsed();
    let found = windlass_lang::discovery::discover_with(
        &tree,
        &windlass_model::definition::Definitions::default(),
        if std::env::args().nth(2).is_some() {
            windlass_lang::discovery::Detail::Edges
        } else {
            windlass_lang::discovery::Detail::Outputs
        },
    );
    println!(
        "{} stacks, {} edges, {} diagnostics; listing {listed:?}, all {:?}",
        found.repository.stacks.len(),
        found.repository.edges.len(),
        found.diagnostics.len(),
        start.elapsed()
    );
    if found.repository.stacks.len() < 50 {
        print!("{}", windlass_model::graph::to_tree(&found.repository));
        for d in &found.diagnostics {
            println!("{:?} {} {} {:?}", d.severity, d.code, d.summary, d.labels.first().map(|l| l.span.to_string()));
        }
        for e in &found.repository.edges {
            println!("{} -> {} {:?}", e.from, e.to, e.kind);
        }
    }
    Ok(())
}
