//! Pages about a server, typed line by line.

use super::World;
use super::common::{run, wait};
use super::login::{Browser, ended, login};
use std::path::Path;

/// A stack as the page has it.
fn network(world: &World, size: u32) {
    super::stack(&world.env, size, "true");
    let root = world.env.root();
    std::fs::create_dir_all(root.join("aws/network")).unwrap();
    let text = std::fs::read_to_string(root.join("net/main.tf")).unwrap().replace("net.tfstate", "network.tfstate");
    std::fs::write(root.join("aws/network/main.tf"), text).unwrap();
    super::stack(&world.env, 1, "true");
}

/// The commands of a page.
fn lines(page: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(page).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// The words of a command; text in single quotes is one.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    parts
        .flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn every_command_of_the_page_does_what_it_says() {
    let mut world = World::new();
    network(&world, 1);
    world.env.commit("The network").unwrap();
    world.push("main");
    wait(|| (run(&world.env, &["show", "aws/network"]).code == Some(0)).then_some(()));
    world.env.set("WINDLASS_TOKEN", "");
    let mut typed = Vec::new();
    for line in lines("remote.md") {
        let all = words(&line);
        let arguments: Vec<&str> = all[1..].iter().map(String::as_str).collect();
        match (all[0].as_str(), arguments.as_slice()) {
            ("export", [_]) => {}
            ("windlass", ["login"]) => {
                let (terminal, code) = login(&world, &[]);
                let ana = Browser::new(&world, &world.url, "ana");
                ana.post("/terminal/approve", &ana.csrf, &code, 303, &[]);
                ended(terminal, 0, &["Signed in"]);
            }
            ("windlass", arguments) => drop(world.expect(arguments, 0, &[])),
            ("git", ["commit", .., message]) => {
                network(&world, 2);
                world.env.commit(message).unwrap();
            }
            ("git", arguments) => drop(world.git.run(arguments).unwrap()),
            (other, _) => panic!("who runs {other}?"),
        }
        typed.push(line);
    }
    assert!(typed.len() > 25, "{typed:?}");
    assert!(world.env.home().join("network.tfstate").is_file(), "what was applied is there");
}

#[test]
fn every_command_for_who_keeps_a_server_does_what_it_says() {
    let world = World::new();
    let home = world.env.home();
    std::fs::create_dir(home.join("backups")).unwrap();
    let places = [("/etc/windlass/", "/"), ("/var/lib/windlass", "/server"), ("/backups/", "/backups/")];
    let typed = lines("operating.md");
    for line in &typed {
        let line = places
            .iter()
            .fold(line.clone(), |line, (there, here)| line.replace(there, &format!("{}{here}", home.display())));
        let all = words(&line);
        let arguments: Vec<&str> = all[1..].iter().map(String::as_str).collect();
        world.expect(&arguments, 0, &[]);
    }
    assert!(typed.len() >= 5 && home.join("backups/windlass.db").is_file(), "{typed:?}");
}
