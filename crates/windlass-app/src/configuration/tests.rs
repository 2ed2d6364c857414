use super::*;

/// Before the tables of the reference.
const HEAD: &str = "# Configuration of a server

<!-- Made from the comments in the code. After a change: WINDLASS_WRITE_DOCS=1 cargo test -p windlass-app configuration -->

`windlass serve` needs no configuration. What it is told comes from flags, from the environment and from a file in
[TOML](https://toml.io) that `--config FILE` names; flags go before the environment, which goes before the file. Each mistake in
the file is told with its line ([WL907](codes/WL907.md)).

```toml
url = \"https://windlass.example.com\"
database = \"postgres://windlass@db/windlass\"
data = \"/var/lib/windlass\"
admins = [\"email:anna@example.com\"]

[[repository]]
name = \"infra\"
url = \"https://git.example.com/infra.git\"

[[oidc]]
name = \"company\"
issuer = \"https://sso.example.com\"
client_id = \"windlass\"
client_secret_file = \"/run/secrets/oidc\"
```
";

/// Where each table of the file is read into: its heading, the source, the type.
const TABLES: [(&str, &str, &str); 6] = [
    ("Top of the file", include_str!("../configuration.rs"), "Configuration"),
    ("`[[repository]]`", include_str!("../repositories.rs"), "Repository"),
    (
        "`[repository.forge]`, after its `[[repository]]`",
        include_str!("../../../windlass-connect/src/forge/settings.rs"),
        "ForgeSettings",
    ),
    ("`[repository.forge.app]`", include_str!("../../../windlass-connect/src/forge/settings.rs"), "AppSettings"),
    ("`[[oidc]]`", include_str!("../../../windlass-connect/src/oidc.rs"), "ProviderSettings"),
    ("`[[ci]]`", include_str!("../../../windlass-connect/src/workload.rs"), "IssuerSettings"),
];

/// The rows of a table: one for each field, from its comment.
fn rows(source: &str, name: &str) -> String {
    let head = format!("pub struct {name} {{\n");
    let at = source.find(&head).unwrap_or_else(|| panic!("there is no {name}")) + head.len();
    let whole_default = source[..at - head.len()]
        .lines()
        .rev()
        .take_while(|line| line.starts_with("#["))
        .any(|line| line.contains("default"));
    let (mut out, mut meaning, mut renamed, mut has_default) = (String::new(), Vec::new(), None, whole_default);
    for line in source[at..].lines().map(str::trim).take_while(|line| *line != "}") {
        if let Some(text) = line.strip_prefix("///") {
            meaning.push(text.trim());
        } else if line.starts_with("#[serde(") {
            has_default |= line.contains("default");
            renamed = line.split("rename = \"").nth(1).and_then(|rest| rest.split('"').next()).or(renamed);
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':')) {
            assert!(!meaning.is_empty(), "{name}.{field} has no comment");
            let required = if has_default { "" } else { "yes" };
            let text = meaning.join(" ").replace('|', "\\|");
            out.push_str(&format!("| `{}` | {text} | {required} |\n", renamed.unwrap_or(field)));
            (meaning, renamed, has_default) = (Vec::new(), None, whole_default);
        }
    }
    out
}

#[test]
fn the_reference_is_what_the_code_says() {
    let mut text = HEAD.to_owned();
    for (heading, source, name) in TABLES {
        text.push_str(&format!(
            "\n## {heading}\n\n| key | meaning | required |\n|---|---|---|\n{}",
            rows(source, name)
        ));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("WINDLASS_WRITE_DOCS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "see the comment at the top of the file");
}

#[test]
fn the_example_of_the_reference_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("windlass.toml");
    let example = HEAD.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    std::fs::write(&file, example).unwrap();
    let read = Configuration::read(Some(&file), |_| None).unwrap();
    assert_eq!(read.url.as_deref(), Some("https://windlass.example.com"));
    assert_eq!((read.repositories.len(), read.providers.len(), read.issuers.len()), (1, 1, 0));
    let listen =
        Configuration::read(Some(&file), |name| (name == "WINDLASS_LISTEN").then(|| "[::1]:80".into())).unwrap();
    assert_eq!(listen.listen, Some("[::1]:80".parse().unwrap()), "the environment goes before the file");

    std::fs::write(&file, "urll = \"x\"\n").unwrap();
    let error = Configuration::read(Some(&file), |_| None).unwrap_err();
    assert_eq!(error.diagnostics[0].code, "WL907");
    assert!(error.diagnostics[0].summary.contains("urll"), "{}", error.diagnostics[0].summary);
}
