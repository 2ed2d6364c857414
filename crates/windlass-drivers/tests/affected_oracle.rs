//! Random repositories, one changed file, and brute force: the affected set has to be exactly the stacks for which anything they
//! can read differs. The reader here is independent of discovery: it knows lines, not HCL.

use std::collections::{BTreeMap, BTreeSet};
use windlass_lang::discovery::discover;
use windlass_lang::tree::{MemoryTree, join};
use windlass_model::affected::{ChangeKind, PathChange, affected};
use windlass_model::definition::Definitions;
use windlass_model::review::AffectedKind;

type Files = BTreeMap<String, String>;

/// A small generator with a fixed seed: the same cases every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Modules 0..n; a module calls only later ones, and every second one has a `./sub` of its own.
fn repository(random: &mut Random) -> Files {
    let mut files = Files::new();
    let modules = 2 + random.below(5);
    let place =
        |n: usize| if n.is_multiple_of(3) { format!("shared/mod-{n}") } else { format!("modules/m{}", "a".repeat(n)) };
    let up = |directory: &str| "../".repeat(directory.split('/').count());
    for n in 0..modules {
        let directory = place(n);
        let mut text = "variable \"x\" {\n  default = 1\n}\n".to_owned();
        for later in n + 1..modules {
            if random.one_in(3) {
                text.push_str(&format!(
                    "module \"m{later}\" {{\n  source = \"{}{}\"\n}}\n",
                    up(&directory),
                    place(later)
                ));
            }
        }
        if n % 2 == 0 {
            text.push_str("module \"sub\" {\n  source = \"./sub\"\n}\n");
            files.insert(format!("{directory}/sub/main.tf"), "locals {\n  a = 1\n}\n".into());
        }
        if random.one_in(2) {
            text.push_str("locals {\n  t = templatefile(\"${path.module}/tpl/x.tpl\", {})\n}\n");
            files.insert(format!("{directory}/tpl/x.tpl"), "template".into());
        }
        files.insert(format!("{directory}/main.tf"), text);
    }
    for n in 0..2 + random.below(4) {
        // Names that are prefixes of each other.
        let directory = format!("stacks/stack-{}", "a".repeat(n + 1));
        let mut text =
            format!("terraform {{\n  backend \"s3\" {{\n    bucket = \"b\"\n    key    = \"{n}\"\n  }}\n}}\n");
        for module in 0..modules {
            if random.one_in(2) {
                text.push_str(&format!(
                    "module \"m{module}\" {{\n  source = \"{}{}\"\n}}\n",
                    up(&directory),
                    place(module)
                ));
            }
        }
        if random.one_in(2) {
            text.push_str("resource \"terraform_data\" \"t\" {\n  input = file(\"${path.module}/data.txt\")\n}\n");
            files.insert(format!("{directory}/data.txt"), "data".into());
        }
        if random.one_in(3) {
            files.insert(format!("{directory}/x.auto.tfvars"), "y = 1\n".into());
        }
        if random.one_in(3) {
            files.insert(format!("{directory}/more.tf.json"), "{\"locals\": {\"j\": 1}}".into());
        }
        if random.one_in(3) {
            files.insert(format!("{directory}/z_override.tf"), "locals {\n  o = 1\n}\n".into());
        }
        files.insert(format!("{directory}/README.md"), "not read".into());
        files.insert(format!("{directory}/main.tf"), text);
    }
    files
}

/// Everything the configuration in `directory` can read, as one text.
fn read_all(files: &Files, directory: &str, seen: &mut BTreeSet<String>, out: &mut String) {
    if !seen.insert(directory.to_owned()) {
        return;
    }
    for (path, text) in
        files.iter().filter(|(path, _)| path.rsplit_once('/').is_some_and(|(parent, _)| parent == directory))
    {
        if ![".tf", ".tf.json", ".tfvars"].iter().any(|suffix| path.ends_with(suffix)) {
            continue;
        }
        out.push_str(&format!("{path}\n{text}\n"));
        for line in text.lines() {
            let source = line.trim().strip_prefix("source = \"").and_then(|rest| rest.strip_suffix('"'));
            if let Some(target) = source.and_then(|source| join(directory, source)) {
                read_all(files, &target, seen, out);
            }
            for part in line.split("${path.module}/").skip(1) {
                let named = join(directory, part.split('"').next().unwrap_or_default()).unwrap_or_default();
                out.push_str(&format!("{named}={:?}\n", files.get(&named)));
            }
        }
    }
}

/// What each directory below `stacks/` that holds configuration can read.
fn truth(files: &Files) -> BTreeMap<String, String> {
    let configuration = files
        .keys()
        .filter(|path| path.starts_with("stacks/") && (path.ends_with(".tf") || path.ends_with(".tf.json")));
    let stacks: BTreeSet<&str> =
        configuration.filter_map(|path| path.rsplit_once('/')).map(|(directory, _)| directory).collect();
    stacks
        .into_iter()
        .map(|directory| {
            let mut text = String::new();
            read_all(files, directory, &mut BTreeSet::new(), &mut text);
            (directory.to_owned(), text)
        })
        .collect()
}

#[test]
fn the_affected_set_is_what_brute_force_says() {
    let mut answers = [0usize; 2];
    for seed in 0..600u64 {
        let mut random = Random(seed);
        let before = repository(&mut random);
        let mut after = before.clone();
        let paths: Vec<&String> = before.keys().collect();
        let path = paths[random.below(paths.len())].clone();
        let change = match random.below(4) {
            0 => {
                let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                let path = format!("{directory}/{}", ["added.tf", "added.txt", "added.auto.tfvars"][random.below(3)]);
                after.insert(
                    path.clone(),
                    if path.ends_with(".tfvars") { "z = 1\n".into() } else { "# added\n".into() },
                );
                PathChange { path, old_path: None, kind: ChangeKind::Added }
            }
            1 => {
                after.remove(&path);
                PathChange { path, old_path: None, kind: ChangeKind::Deleted }
            }
            2 => {
                let new = format!("{path}.moved");
                let content = after.remove(&path).unwrap_or_default();
                after.insert(new.clone(), content);
                PathChange { path: new, old_path: Some(path), kind: ChangeKind::Renamed }
            }
            _ => {
                let text = after.entry(path.clone()).or_default();
                text.push_str(if path.ends_with(".json") { "\n" } else { "\n# changed\n" });
                PathChange { path, old_path: None, kind: ChangeKind::Modified }
            }
        };
        let repository = |files: &Files| discover(&MemoryTree::new(files.clone()), &Definitions::default()).repository;
        let (head, base) = (repository(&after), repository(&before));
        let found: BTreeSet<String> = affected(&head, Some(&base), std::slice::from_ref(&change))
            .into_iter()
            // Without its callers a module may be taken for a stack; the reader here knows only those below `stacks/`.
            .filter(|a| a.stack.as_str().starts_with("stacks/"))
            .inspect(|a| assert!(a.kind != AffectedKind::Dependant && !a.reasons.is_empty(), "{a:?}"))
            .map(|a| a.stack.to_string())
            .collect();
        let (old, new) = (truth(&before), truth(&after));
        let want: BTreeSet<String> =
            old.keys().chain(new.keys()).filter(|stack| old.get(*stack) != new.get(*stack)).cloned().collect();
        assert_eq!(found, want, "seed {seed}: {change:?}");
        answers[usize::from(want.is_empty())] += 1;
    }
    // The cases are worth something only when both answers occur often.
    assert!(answers.iter().all(|count| *count > 50), "{answers:?}");
}
