//! CODEOWNERS: whom a change of a file concerns, in the syntax of GitHub, which the other forges read as well.

use globset::{GlobBuilder, GlobMatcher};
use std::collections::BTreeSet;

/// Where such a file lies; the first that is there counts.
pub const PLACES: [&str; 6] = [
    ".github/CODEOWNERS",
    "CODEOWNERS",
    "docs/CODEOWNERS",
    ".gitlab/CODEOWNERS",
    ".gitea/CODEOWNERS",
    ".forgejo/CODEOWNERS",
];

/// The rules of a file. What it says of a pattern that cannot be read is left out, as forges do.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    rules: Vec<(Vec<GlobMatcher>, Vec<String>)>,
}

impl Owners {
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let line = line.split(" #").next().unwrap_or_default().trim();
            // Sections of GitLab are read as the rules in them.
            if line.is_empty() || line.starts_with(['#', '[', '^']) {
                return None;
            }
            let mut words = line.split_whitespace();
            let pattern = words.next()?;
            let owners = words.filter(|word| word.contains('@')).map(str::to_owned).collect();
            Some((matchers(pattern)?, owners))
        };
        Self { rules: text.lines().filter_map(line).collect() }
    }

    /// Whom a path concerns: the last rule that matches says it.
    pub fn of(&self, path: &str) -> &[String] {
        let found = self.rules.iter().rev().find(|(matchers, _)| matchers.iter().any(|matcher| matcher.is_match(path)));
        found.map_or(&[], |(_, owners)| owners)
    }

    /// Whom any of these paths concerns, sorted.
    pub fn of_all<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let all: BTreeSet<&String> = paths.into_iter().flat_map(|path| self.of(path)).collect();
        all.into_iter().cloned().collect()
    }
}

/// What a pattern means: itself, and what is below it. A slash within it, or before it, ties it to the root.
fn matchers(pattern: &str) -> Option<Vec<GlobMatcher>> {
    let pattern = pattern.replace("\\ ", " ");
    let directory = pattern.ends_with('/');
    let bare = pattern.trim_end_matches('/');
    let tied = bare.contains('/');
    let bare = bare.trim_start_matches('/');
    let root = if tied { bare.to_owned() } else { format!("**/{bare}") };
    let mut globs = Vec::new();
    if !directory {
        globs.push(root.clone());
    }
    // `docs/*` is of the files in it alone.
    if !(tied && root.ends_with("/*")) {
        globs.push(format!("{root}/**"));
    }
    let glob =
        |text: &String| GlobBuilder::new(text).literal_separator(true).build().ok().map(|glob| glob.compile_matcher());
    globs.iter().map(glob).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# everybody
*            @org/all
*.tf         @org/infra ops@example.com   # with a remark
/docs/       @writers
apps/        @apps
/build/*     @build
aws/**/db    @org/dba
/free
[Section]
[broken      @nobody
";

    #[test]
    fn the_last_rule_that_matches_counts() {
        let owners = Owners::parse(FILE);
        let check = |path: &str, want: &[&str]| assert_eq!(owners.of(path), want, "{path}");
        check("README.md", &["@org/all"]);
        check("net/main.tf", &["@org/infra", "ops@example.com"]);
        check("docs/a/b.tf", &["@writers"]);
        check("x/docs/b.md", &["@org/all"]);
        check("x/apps/y/z.md", &["@apps"]);
        check("build/x", &["@build"]);
        check("build/x/y", &["@org/all"]);
        check("aws/tokyo/x/db/main.tf", &["@org/dba"]);
        check("free", &[]);
        check("free/x.md", &[]);
        assert_eq!(owners.of_all(["build/x", "README.md", "free"]), ["@build", "@org/all"]);
        assert!(Owners::parse("").of("x").is_empty());
    }
}
