//! `.terraform.lock.hcl`: which providers, in which version, with which checksums.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// One provider of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// `HOST/NAMESPACE/TYPE`.
    pub address: String,
    pub version: String,
    /// `h1:…` (of the unpacked package, one per platform that was locked) and `zh:…` (of the archives of all platforms).
    pub hashes: Vec<String>,
}

impl Locked {
    pub fn allows(&self, hash: &str) -> bool {
        self.hashes.iter().any(|known| known == hash)
    }

    /// A lock file of it alone.
    pub fn text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| format!("    \"{hash}\",\n")).collect();
        format!("provider \"{}\" {{\n  version = \"{}\"\n  hashes = [\n{hashes}  ]\n}}\n", self.address, self.version)
    }
}

/// The providers of a lock file. What is written in another way than terraform and tofu write it is passed over: it is then
/// installed without our help.
pub fn parse(text: &str) -> Vec<Locked> {
    let mut found = Vec::new();
    let mut current: Option<Locked> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '/'])) {
        let quoted = || line.split('"').nth(1).unwrap_or_default().to_owned();
        if line.starts_with("provider ") {
            current = Some(Locked { address: quoted(), version: String::new(), hashes: Vec::new() });
        } else if line == "}" {
            found.extend(current.take().filter(is_sound));
        } else if let Some(locked) = &mut current {
            if line.starts_with("version") {
                locked.version = quoted();
            } else if line.starts_with("\"h1:") || line.starts_with("\"zh:") {
                locked.hashes.push(quoted());
            }
        }
    }
    found
}

/// Whether address and version can be parts of a path, and mean what they should.
fn is_sound(locked: &Locked) -> bool {
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b))
    };
    locked.address.split('/').count() == 3 && locked.address.split('/').all(plain) && plain(&locked.version)
}

/// `zh:` of an archive: SHA-256 of its bytes.
pub fn zip_hash(archive: &[u8]) -> String {
    format!("zh:{}", hex(&Sha256::digest(archive)))
}

/// `h1:` of the files of a package by name: SHA-256 of the lines that `sha256sum` would print of them sorted by name, in base64
/// (`Hash1` of the Go module `golang.org/x/mod/sumdb/dirhash`).
pub fn package_hash<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    use base64::Engine as _;
    let files: BTreeMap<&str, &[u8]> = files.into_iter().collect();
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(format!("{}  {name}\n", hex(&Sha256::digest(content))));
    }
    format!("h1:{}", base64::engine::general_purpose::STANDARD.encode(hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files() {
        let text = "# This file is maintained automatically by \"terraform init\".\n# Manual edits may be lost in future updates.\n\nprovider \"localhost:8443/acme/thing\" {\n  version     = \"1.0.0\"\n  constraints = \"1.0.0\"\n  hashes = [\n    \"h1:eMWDqXFaBkBMi5p+xVruSOxSy3orMeaV7YPUCDoIhCI=\",\n    \"zh:b277\",\n  ]\n}\n\nprovider \"registry.terraform.io/hashicorp/aws\" {\n  version = \"5.1.0-beta1\"\n}\nprovider \"../../etc\" {\n  version = \"1.0.0\"\n}\nprovider \"a/b/c\" {\n  version = \"../1\"\n}\n";
        let found = parse(text);
        assert_eq!(
            found,
            [
                Locked {
                    address: "localhost:8443/acme/thing".into(),
                    version: "1.0.0".into(),
                    hashes: vec!["h1:eMWDqXFaBkBMi5p+xVruSOxSy3orMeaV7YPUCDoIhCI=".into(), "zh:b277".into()],
                },
                Locked {
                    address: "registry.terraform.io/hashicorp/aws".into(),
                    version: "5.1.0-beta1".into(),
                    hashes: vec![],
                },
            ]
        );
        assert_eq!(parse(&found[0].text()), found[..1]);
    }

    #[test]
    fn hashes_are_those_that_terraform_writes() {
        // Both are what terraform 1.11.4 wrote into a lock file for this package.
        let content = "#!/bin/sh\necho \"a provider that is only ever installed\" >&2\nexit 1\n";
        assert_eq!(
            package_hash([("terraform-provider-thing_v1.0.0", content.as_bytes())]),
            "h1:eMWDqXFaBkBMi5p+xVruSOxSy3orMeaV7YPUCDoIhCI="
        );
        assert_eq!(
            zip_hash(include_bytes!("mirror/fixture/provider.zip")),
            "zh:b2778e693e6704232ba4e015bd19ec1301beda8fe79db2085c88d510d486c624"
        );
    }
}
