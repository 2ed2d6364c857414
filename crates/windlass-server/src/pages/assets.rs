//! Scripts and style sheets, embedded in the program. Their addresses carry a digest of the content, so that browsers may
//! keep them for ever.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    digest: String,
}

macro_rules! assets {
    ($($name:literal: $content_type:expr,)*) => {
        vec![
            $(Asset::new($name, $content_type, include_bytes!(concat!("../../assets/", $name))),)*
            Asset::new("review.css", STYLE, super::review::STYLE.as_bytes()),
        ]
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    assets! {
        "frame.js": SCRIPT,
        "gantt.js": SCRIPT,
        "graph.js": SCRIPT,
        "icon.svg": IMAGE,
        "live.js": SCRIPT,
        "log.js": SCRIPT,
        "operation.js": SCRIPT,
        "run.css": STYLE,
        "run.js": SCRIPT,
        "style.css": STYLE,
    }
});

impl Asset {
    fn new(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { name, content_type, bytes, digest }
    }
}

/// The asset `name` (what follows `/assets/`) as content type, bytes and the digest that its address carries as `v`;
/// `None` for any other name. An answer to a request with that `v` may be kept for ever.
pub fn get(name: &str) -> Option<(&'static str, &'static [u8], &'static str)> {
    ASSETS.iter().find(|a| a.name == name).map(|a| (a.content_type, a.bytes, a.digest.as_str()))
}

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|a| a.name)
}

/// The address of an asset, e.g. `/assets/style.css?v=0123456789abcdef`.
pub fn url(name: &str) -> String {
    match get(name) {
        Some((_, _, digest)) => format!("/assets/{name}?v={digest}"),
        None => format!("/assets/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_embedded_under_its_own_address() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".test.js"))
            .collect();
        files.sort();
        // Of the crate that draws reviews everywhere.
        files.push("review.css".into());
        assert_eq!(
            names().collect::<Vec<_>>(),
            files,
            "a file in assets/ without a line in the list, or the other way round"
        );
        for name in names() {
            let (content_type, bytes, digest) = get(name).unwrap();
            let file = std::fs::read(format!("{folder}/{name}"));
            assert_eq!(bytes, file.unwrap_or_else(|_| crate::pages::review::STYLE.into()));
            assert_eq!(url(name), format!("/assets/{name}?v={digest}"));
            let kind = name.rsplit('.').next().unwrap();
            let want = match kind {
                "js" => "text/javascript",
                "css" => "text/css",
                _ => "image/svg",
            };
            assert!(content_type.starts_with(want), "{name}: {content_type}");
        }
        assert_eq!(get("../style.css"), None);
        assert_eq!(get("absent.js"), None);
    }
}
