//! Options of a command: flags and `--name VALUE` (or `--name=VALUE`), nothing else.

use std::collections::BTreeMap;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    values: BTreeMap<&'static str, String>,
}

impl Options {
    /// # Errors
    /// A sentence naming what is not understood.
    pub fn parse(arguments: Vec<String>, flags: &[&'static str], values: &[&'static str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                options.values.insert("--help", String::new());
                continue;
            }
            let (name, given) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            if let (Some(flag), None) = (flags.iter().find(|flag| **flag == name), &given) {
                options.values.insert(flag, String::new());
            } else if let Some(known) = values.iter().find(|known| **known == name) {
                let value = given.or_else(|| arguments.next()).ok_or_else(|| format!("`{name}` needs a value"))?;
                options.values.insert(known, value);
            } else {
                return Err(format!("`{argument}` is not understood"));
            }
        }
        Ok(options)
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], want: Result<&[(&str, &str)], &str>) {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let found = Options::parse(arguments, &["--yes"], &["--dir"]);
        match (found, want) {
            (Ok(found), Ok(want)) => {
                let found: Vec<(&str, &str)> =
                    found.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
                assert_eq!(found, want);
            }
            (found, want) => {
                assert_eq!(found.map(|_| ()).map_err(|e| e.to_string()), want.map(|_| ()).map_err(str::to_owned))
            }
        }
    }

    #[test]
    fn options_are_flags_or_have_values() {
        check(&[], Ok(&[]));
        check(&["--yes", "--dir", "x"], Ok(&[("--dir", "x"), ("--yes", "")]));
        check(&["--dir=a=b"], Ok(&[("--dir", "a=b")]));
        check(&["-h"], Ok(&[("--help", "")]));
        check(&["--dir"], Err("`--dir` needs a value"));
        check(&["--yes=1"], Err("`--yes=1` is not understood"));
        check(&["now"], Err("`now` is not understood"));
    }
}
