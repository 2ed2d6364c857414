//! JSON configuration as a tree with places, so that only the strings that refer to something are written anew. Bodies may be
//! arrays of objects at every level, and a name may be there twice.

use super::references::References;
use super::{Cut, Found, Outputs, apply};
use hcl_edit::visit::Visit as _;
use std::collections::BTreeMap;
use std::ops::Range;

enum Node {
    Object(Vec<(Range<usize>, Node)>),
    Array(Vec<Node>),
    /// With its quotes.
    Text(Range<usize>),
    Other,
}

pub(super) fn find(text: &str, replaced: &BTreeMap<String, Outputs>) -> Result<Found, String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| error.to_string())?;
    let mut cursor = Cursor { text, at: 0 };
    let root = cursor.node();
    let mut walker = Walker { text, replaced, found: Found::default() };
    walker.root(&root);
    Ok(walker.found)
}

/// Reads text that is known to be valid JSON.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    fn node(&mut self) -> Node {
        match self.peek() {
            b'{' => {
                let mut items = Vec::new();
                self.at += 1;
                while matches!(self.peek(), b'"') {
                    let key = self.string();
                    self.skip(b':');
                    items.push((key, self.node()));
                    self.skip(b',');
                }
                self.skip(b'}');
                Node::Object(items)
            }
            b'[' => {
                let mut items = Vec::new();
                self.at += 1;
                while !matches!(self.peek(), b']' | 0) {
                    items.push(self.node());
                    self.skip(b',');
                }
                self.skip(b']');
                Node::Array(items)
            }
            b'"' => Node::Text(self.string()),
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.find(|c: char| ",]}".contains(c) || c.is_ascii_whitespace()).unwrap_or(rest.len());
                self.at += end.max(1);
                Node::Other
            }
        }
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Range<usize> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        start..self.at
    }
}

struct Walker<'a> {
    text: &'a str,
    replaced: &'a BTreeMap<String, Outputs>,
    found: Found,
}

impl<'a> Walker<'a> {
    fn decoded(&self, range: &Range<usize>) -> String {
        serde_json::from_str(&self.text[range.clone()]).unwrap_or_default()
    }

    fn root(&mut self, node: &Node) {
        self.each(node, &mut |walker, name, inner| match name {
            "data" => walker.each(inner, &mut |walker, kind, inner| match kind {
                "terraform_remote_state" => walker.each(inner, &mut |walker, name, inner| walker.state(name, inner)),
                _ => walker.expressions(inner, None),
            }),
            _ => walker.expressions(inner, None),
        });
    }

    /// Every name of an object, or of all objects of an array.
    fn each(&mut self, node: &Node, visit: &mut dyn FnMut(&mut Self, &str, &Node)) {
        match node {
            Node::Array(items) => items.iter().for_each(|item| self.each(item, visit)),
            Node::Object(items) => {
                for (key, inner) in items {
                    let name = self.decoded(key);
                    if name != "//" {
                        visit(self, &name, inner);
                    }
                }
            }
            Node::Text(_) | Node::Other => {}
        }
    }

    /// A block of one data source, or an array of them.
    fn state(&mut self, name: &str, node: &Node) {
        let own = self.replaced.get_key_value(name);
        if let (Some((name, _)), Node::Object(items)) = (own, node) {
            let has = |wanted: &str| items.iter().any(|(key, _)| self.decoded(key) == wanted);
            let block = (name.clone(), has("count"), has("for_each"));
            self.found.blocks.push(block);
        }
        match node {
            Node::Array(items) => items.iter().for_each(|item| self.state(name, item)),
            _ => self.expressions(node, own.map(|(_, outputs)| outputs)),
        }
    }

    fn expressions(&mut self, node: &Node, own: Option<&'a Outputs>) {
        match node {
            Node::Text(range) => self.template(range, own),
            Node::Array(items) => items.iter().for_each(|item| self.expressions(item, own)),
            Node::Object(items) => {
                for (key, inner) in items {
                    // The data source is still there to be depended on; `//` is a comment.
                    if !matches!(self.decoded(key).as_str(), "depends_on" | "//") {
                        self.template(key, own);
                        self.expressions(inner, own);
                    }
                }
            }
            Node::Other => {}
        }
    }

    /// A string is a template.
    fn template(&mut self, range: &Range<usize>, own: Option<&'a Outputs>) {
        let text = self.decoded(range);
        if !text.contains("${") && !text.contains("%{") {
            return;
        }
        // What is no template is plain text where Terraform wants no expression, and its own mistake elsewhere.
        let Ok(template) = hcl_edit::parser::parse_template(&text) else { return };
        let mut references = References::within(self.replaced, own);
        references.visit_template(&template);
        let Found { cuts, settings, .. } = references.found;
        self.found.settings.extend(settings);
        if !cuts.is_empty() {
            let changed = serde_json::Value::from(apply(&text, cuts)).to_string();
            self.found.cuts.push(Cut { from: range.start, to: range.end, text: changed });
        }
    }
}
