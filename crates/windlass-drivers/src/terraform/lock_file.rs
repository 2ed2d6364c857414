//! `.terraform.lock.hcl`: which providers, in which version, with which checksums.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};

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

/// Every provider version that is named in one of `files` (a name of the file, and what it locks), with all that lock it. One
/// version with different checksums in two files is there once; each file keeps its own.
pub fn union<T>(files: impl IntoIterator<Item = (T, Vec<Locked>)>) -> BTreeMap<(String, String), Vec<(T, Locked)>>
where
    T: Clone,
{
    let mut found: BTreeMap<(String, String), Vec<(T, Locked)>> = BTreeMap::new();
    for (file, providers) in files {
        for locked in providers {
            found.entry((locked.address.clone(), locked.version.clone())).or_default().push((file.clone(), locked));
        }
    }
    found
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

/// Copies all of `from` to `to`; SHA-256 of it in hex, and how many bytes it was.
///
/// # Errors
/// Reading or writing failed.
pub fn copy_and_sum(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<(String, u64)> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((hex(&hash.finalize()), bytes)),
            n => {
                hash.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
                bytes += n as u64;
            }
        }
    }
}

/// `h1:` of a package by the SHA-256 (hex) of each of its files: that of the lines that `sha256sum` would print of them sorted by
/// name, in base64 (`Hash1` of the Go module `golang.org/x/mod/sumdb/dirhash`).
pub fn package_hash(sums: &BTreeMap<String, String>) -> String {
    use base64::Engine as _;
    let mut hash = Sha256::new();
    for (name, sum) in sums {
        hash.update(format!("{sum}  {name}\n"));
    }
    format!("h1:{}", base64::engine::general_purpose::STANDARD.encode(hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_testkit::depot::SCRIPT;
    use windlass_testkit::registry::{ARCHIVE, H1, ZH};

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
        let mut copy = Vec::new();
        let (sum, bytes) = copy_and_sum(&mut SCRIPT.as_bytes(), &mut copy).unwrap();
        assert_eq!((bytes, copy.as_slice()), (SCRIPT.len() as u64, SCRIPT.as_bytes()));
        assert_eq!(package_hash(&BTreeMap::from([("terraform-provider-depot_v1.0.0".to_owned(), sum)])), H1);
        let (sum, _) = copy_and_sum(&mut &*ARCHIVE, &mut std::io::sink()).unwrap();
        assert_eq!(format!("zh:{sum}"), ZH);
    }

    #[test]
    fn a_union_has_each_version_once_and_forgets_no_checksum() {
        let of = |address: &str, version: &str, hash: &str| Locked {
            address: address.into(),
            version: version.into(),
            hashes: vec![hash.into()],
        };
        let (aws, old, other) = (of("h/n/aws", "2", "h1:a"), of("h/n/aws", "1", "h1:b"), of("h/n/aws", "2", "h1:c"));
        let found = union([("x", vec![aws.clone(), old.clone()]), ("y", vec![other.clone()]), ("z", vec![])]);
        let key = |version: &str| ("h/n/aws".to_owned(), version.to_owned());
        assert_eq!(found, BTreeMap::from([(key("1"), vec![("x", old)]), (key("2"), vec![("x", aws), ("y", other)])]));
    }
}
