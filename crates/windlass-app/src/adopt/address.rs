//! Addresses of resources: read, and made from what a listing says.

use std::collections::BTreeSet;

/// The address of one resource instance, such as `module.a["x"].aws_vpc.main[0]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub text: String,
    /// Resource type.
    pub kind: String,
    /// It lies in a module of the stack.
    pub in_module: bool,
    /// It has an index (`count`, `for_each`).
    pub indexed: bool,
}

impl Address {
    /// # Errors
    /// Why it is no address of a managed resource, to stand after a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split(text)?;
        let mut parts = parts.as_slice();
        let mut in_module = false;
        while let [module, call, rest @ ..] = parts {
            if module.0 != "module" || module.1 {
                break;
            }
            identifier(&call.0)?;
            in_module = true;
            parts = rest;
        }
        match parts {
            [kind, ..] if kind.0 == "data" => Err("a data source is read, it cannot be taken into a state".into()),
            [kind, name] if !kind.1 => {
                identifier(&kind.0)?;
                identifier(&name.0)?;
                Ok(Self { text: text.to_owned(), kind: kind.0.clone(), in_module, indexed: name.1 })
            }
            _ => Err("expected TYPE.NAME, such as aws_vpc.main".into()),
        }
    }
}

/// The resource type of an address as terraform writes it in a state.
pub fn kind_of(address: &str) -> Option<String> {
    Address::parse(address).ok().map(|address| address.kind)
}

/// Segments between dots, each with whether an index follows it.
fn split(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let mut part = (rest[..end].to_owned(), false);
        rest = &rest[end..];
        if let Some(inner) = rest.strip_prefix('[') {
            let length = index(inner)?;
            part.1 = true;
            rest = &inner[length..];
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(parts),
            None => return Err(format!("`{rest}` is left over")),
        }
    }
}

/// Bytes of an index up to and with its closing bracket.
fn index(text: &str) -> Result<usize, String> {
    let open = || "the index is not closed".to_owned();
    if !text.starts_with('"') {
        let end = text.find(']').ok_or_else(open)?;
        let number = &text[..end];
        let good = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        return if good { Ok(end + 1) } else { Err(format!("the index `{number}` is no number and no quoted text")) };
    }
    let mut escaped = false;
    let close = text[1..].char_indices().find(|(_, c)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    });
    let end = close.map(|(at, _)| at + 2).ok_or_else(open)?;
    let key: String = serde_json::from_str(&text[..end]).map_err(|_| "the index is no quoted text".to_owned())?;
    if key.contains("${") || key.contains("%{") {
        return Err("a template in an index has no fixed value".into());
    }
    if text[end..].starts_with(']') { Ok(end + 1) } else { Err(open()) }
}

/// # Errors
/// Why it is no identifier.
pub fn identifier(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let starts = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if starts && text.chars().all(good) { Ok(()) } else { Err(format!("`{text}` is not a valid name")) }
}

/// An address for a resource that only has a type, an id and perhaps a name: valid, and none of `taken`.
pub fn made(kind: &str, name: &str, taken: &BTreeSet<String>) -> String {
    let mut plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect();
    if !plain.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        plain.insert(0, '_');
    }
    let plain = if plain.bytes().all(|b| b == b'_') { "imported" } else { plain.as_str() };
    let first = format!("{kind}.{plain}");
    let mut others = (2u32..).map(|number| format!("{kind}.{plain}_{number}"));
    if taken.contains(&first) { others.find(|address| !taken.contains(address)).unwrap_or(first) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let check = |text: &str, want: Result<(&str, bool, bool), &str>| {
            let found = Address::parse(text);
            let found = found.as_ref().map(|a| (a.kind.as_str(), a.in_module, a.indexed)).map_err(String::as_str);
            assert_eq!(found, want, "{text}");
        };
        check("aws_vpc.main", Ok(("aws_vpc", false, false)));
        check("aws_vpc.main[0]", Ok(("aws_vpc", false, true)));
        check("aws_vpc.main[\"a.b]\\\"\"]", Ok(("aws_vpc", false, true)));
        check("module.m[\"x\"].module.n.aws_vpc.main", Ok(("aws_vpc", true, false)));
        check("aws_vpc", Err("expected TYPE.NAME, such as aws_vpc.main"));
        check("", Err("expected TYPE.NAME, such as aws_vpc.main"));
        check("aws_vpc.main.id", Err("expected TYPE.NAME, such as aws_vpc.main"));
        check("module.m", Err("expected TYPE.NAME, such as aws_vpc.main"));
        check("aws_vpc.", Err("`` is not a valid name"));
        check("aws_vpc.1st", Err("`1st` is not a valid name"));
        check("aws vpc.main", Err("`aws vpc` is not a valid name"));
        check("aws_vpc.main[x]", Err("the index `x` is no number and no quoted text"));
        check("aws_vpc.main[0", Err("the index is not closed"));
        check("aws_vpc.main[0]x", Err("`x` is left over"));
        check("aws_vpc.main[\"${a}\"]", Err("a template in an index has no fixed value"));
        check("data.aws_vpc.main", Err("a data source is read, it cannot be taken into a state"));
        assert_eq!(kind_of("module.m.aws_vpc.main[\"k\"]").as_deref(), Some("aws_vpc"));
    }

    #[test]
    fn addresses_are_made() {
        let taken: BTreeSet<String> = ["t.web", "t.web_2"].map(str::to_owned).into();
        let check = |name: &str, want: &str| assert_eq!(made("t", name, &taken), want, "{name}");
        check("db", "t.db");
        check("Web server/1", "t.Web_server_1");
        check("10.0.0.0", "t._10_0_0_0");
        check("web", "t.web_3");
        check("ümläut", "t._ml_ut");
        check("..", "t.imported");
        check("", "t.imported");
    }
}
