//! What is to be adopted, as people and listings write it.

use windlass_model::diagnostic::Diagnostic;

/// One resource that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub what: What,
    pub id: String,
    /// Where it was read, e.g. `line 3 of list.txt`.
    pub place: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Address(String),
    /// A type and perhaps a name, from which an address is made.
    Listed {
        kind: String,
        name: Option<String>,
    },
}

/// What was read and what is wrong with the rest.
pub type Read = (Vec<Named>, Vec<Diagnostic>);

fn wrong(place: &str, why: &str) -> Diagnostic {
    Diagnostic::error("WL680", format!("{place}: {why}")).help("write ADDRESS=ID, such as 'aws_vpc.main=vpc-0a1b2c'")
}

/// Arguments of the command line: `ADDRESS=ID`.
pub fn pairs(arguments: &[String]) -> Read {
    let mut read = Read::default();
    for argument in arguments {
        pair(argument, &format!("`{argument}`"), &mut read);
    }
    read
}

fn pair(text: &str, place: &str, read: &mut Read) {
    // An index may have an equals sign in its quotes.
    let mut quoted = false;
    let mut escaped = false;
    let at = text.char_indices().find(|(_, c)| {
        let found = *c == '=' && !quoted;
        if *c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = *c == '\\' && !escaped;
        found
    });
    match at {
        Some((at, _)) => read.0.push(Named {
            what: What::Address(text[..at].trim().to_owned()),
            id: text[at + 1..].trim().to_owned(),
            place: place.to_owned(),
        }),
        None => read.1.push(wrong(place, "there is no `=` between an address and an id")),
    }
}

/// A file of lines `address=id`, a CSV file whose first line names its columns, or a JSON list of objects.
pub fn file(name: &str, text: &str) -> Read {
    if text.trim_start().starts_with(['[', '{']) {
        return listing(name, text);
    }
    let lines = || {
        let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    };
    let mut read = Read::default();
    let columns: Vec<String> = lines()
        .next()
        .and_then(|(_, line)| fields(line))
        .unwrap_or_default()
        .iter()
        .map(|f| f.to_lowercase())
        .collect();
    let column = |name: &str| columns.iter().position(|c| c == name);
    let Some(id) = column("id").filter(|_| column("address").is_some() || column("type").is_some()) else {
        for (number, line) in lines() {
            pair(line, &format!("line {number} of {name}"), &mut read);
        }
        return read;
    };
    for (number, line) in lines().skip(1) {
        let place = format!("line {number} of {name}");
        let Some(fields) = fields(line) else {
            read.1.push(wrong(&place, "a quoted field is not closed"));
            continue;
        };
        let field = |at: Option<usize>| at.and_then(|at| fields.get(at)).filter(|f| !f.is_empty()).cloned();
        let what = match (field(column("address")), field(column("type"))) {
            (Some(address), _) => What::Address(address),
            (None, Some(kind)) => What::Listed { kind, name: field(column("name")) },
            (None, None) => {
                read.1.push(wrong(&place, "it has neither an address nor a type"));
                continue;
            }
        };
        read.0.push(Named { what, id: field(Some(id)).unwrap_or_default(), place });
    }
    read
}

/// The fields of a line of CSV; `None` when a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    (!quoted).then(|| fields.iter().map(|field| field.trim().to_owned()).collect())
}

/// A JSON list of `{"type", "id", "name"?}` or `{"address", "id"}`, or an object that has one as `unmanaged`, which is what
/// `windlass adopt --unmanaged --json` prints.
pub fn listing(name: &str, text: &str) -> Read {
    let mut read = Read::default();
    let unreadable = |why: String| {
        Diagnostic::error("WL686", format!("{name} is no listing: {why}")).help(
            "a listing is a JSON list such as [{\"type\": \"aws_vpc\", \"id\": \"vpc-0a1b2c\", \"name\": \"main\"}]",
        )
    };
    let value: serde_json::Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            read.1.push(unreadable(error.to_string()));
            return read;
        }
    };
    let Some(items) = value.as_array().or_else(|| value.get("unmanaged")?.as_array()) else {
        read.1.push(unreadable("it is neither a list nor an object with a list `unmanaged`".into()));
        return read;
    };
    for (at, item) in items.iter().enumerate() {
        let place = format!("entry {} of {name}", at + 1);
        let field = |name: &str| match item.get(name) {
            Some(serde_json::Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let what = match (field("address"), field("type")) {
            (Some(address), _) => What::Address(address),
            (None, Some(kind)) => What::Listed { kind, name: field("name") },
            (None, None) => {
                read.1.push(wrong(&place, "it has neither `address` nor `type`"));
                continue;
            }
        };
        read.0.push(Named { what, id: field("id").unwrap_or_default(), place });
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(read: &Read) -> (Vec<String>, Vec<String>) {
        let named = |named: &Named| match &named.what {
            What::Address(address) => format!("{address}={}", named.id),
            What::Listed { kind, name } => format!("{kind}/{}={}", name.as_deref().unwrap_or("-"), named.id),
        };
        (read.0.iter().map(named).collect(), read.1.iter().map(|d| format!("{} {}", d.code, d.summary)).collect())
    }

    #[test]
    fn lists_are_read() {
        let check = |text: &str, want: &[&str], mistakes: &[&str]| {
            let (found, wrong) = shown(&file("f", text));
            assert_eq!(
                (found, wrong.len()),
                (want.iter().map(|s| s.to_string()).collect(), mistakes.len()),
                "{wrong:?}"
            );
            for (found, want) in wrong.iter().zip(mistakes) {
                assert!(found.contains(want), "{found}");
            }
        };
        check("# mine\na.b = 1\n\na.c[\"x=y\"]=2=3\n", &["a.b=1", "a.c[\"x=y\"]=2=3"], &[]);
        check("a.b\na.c=\n", &["a.c="], &["WL680 line 1 of f: there is no `=`"]);
        check("Address,ID\na.b,\"x,\"\"y\"\na.c,z\n", &["a.b=x,\"y", "a.c=z"], &[]);
        check("type,name,id\na,b,1\na,,2\n,b,3\na,\"b,4\n", &["a/b=1", "a/-=2"], &["line 4", "line 5 of f: a quoted"]);
        check(r#"[{"type":"a","id":7},{"address":"a.b","id":"8"},{"id":"9"}]"#, &["a/-=7", "a.b=8"], &["entry 3"]);
        check(r#"{"unmanaged":[{"type":"a","id":"1","name":"n"}]}"#, &["a/n=1"], &[]);
        check(r#"{"other":[]}"#, &[], &["WL686 f is no listing: it is neither"]);
        check("[1", &[], &["WL686"]);
        assert_eq!(shown(&pairs(&["a.b=c".into(), "d".into()])).0, ["a.b=c"]);
    }
}
