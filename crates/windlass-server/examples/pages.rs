//! Writes the sample of each page as a file, with the assets beside them, to be looked at in a browser:
//! `cargo run -p windlass-server --example pages -- DIR`, then serve `DIR` by any server of files.

use std::path::Path;
use windlass_server::pages::{
    Frame, Section, access, assets, changes, drift, error, events, home, settings, sign_in, stack, stacks, terminal,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: pages DIR")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder.join("assets"))?;
    for name in assets::names() {
        if let Some((_, bytes, _)) = assets::get(name) {
            std::fs::write(folder.join("assets").join(name), bytes)?;
        }
    }
    let frame = Frame::sample;
    let outside = Frame::sample_outside();
    let pages = [
        ("home", home::render(&frame(Section::Home), &home::Home::sample())),
        ("home-calm", home::render(&frame(Section::Home), &home::Home::sample_calm())),
        ("home-empty", home::render(&frame(Section::Home), &home::Home::sample_empty())),
        ("stacks", stacks::render(&frame(Section::Stacks), &stacks::Stacks::sample())),
        ("stacks-empty", stacks::render(&frame(Section::Stacks), &stacks::Stacks::sample_empty())),
        ("graph", stacks::render(&frame(Section::Stacks), &stacks::Stacks::sample_graph())),
        ("graph-large", stacks::render(&frame(Section::Stacks), &stacks::Stacks::sample_large_graph())),
        ("stack", stack::render(&frame(Section::Stacks), &stack::Stack::sample())),
        ("stack-empty", stack::render(&frame(Section::Stacks), &stack::Stack::sample_empty())),
        ("changes", changes::render(&frame(Section::Reviews), &changes::Changes::sample())),
        ("changes-empty", changes::render(&frame(Section::Reviews), &changes::Changes::sample_empty())),
        ("drift", drift::render(&frame(Section::Stacks), &drift::Drift::sample())),
        ("events", events::render(&frame(Section::Events), &events::Events::sample())),
        ("events-empty", events::render(&frame(Section::Events), &events::Events::sample_empty())),
        ("settings", settings::render(&frame(Section::Settings), &settings::Settings::sample())),
        ("settings-empty", settings::render(&frame(Section::Settings), &settings::Settings::sample_empty())),
        ("access", access::render(&frame(Section::Settings), &access::Access::sample())),
        ("terminal", terminal::render(&frame(Section::Settings), &terminal::Terminal::sample())),
        ("terminal-empty", terminal::render(&frame(Section::Settings), &terminal::Terminal::sample_empty())),
        ("sign-in", sign_in::render(&outside, &sign_in::SignIn::sample())),
        ("sign-in-expired", sign_in::render(&outside, &sign_in::SignIn::sample_empty())),
        ("not-found", error::render(&frame(Section::Outside), &error::ErrorPage::not_found())),
        ("forbidden", error::render(&frame(Section::Outside), &error::ErrorPage::sample())),
        ("broken", error::render(&outside, &error::ErrorPage::internal("01k9cccccccccccccccccccc1"))),
    ];
    for (name, html) in pages {
        std::fs::write(folder.join(format!("{name}.html")), html)?;
    }
    Ok(())
}
