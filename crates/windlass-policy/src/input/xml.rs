//! XML: attributes under `-name`, text beside them under `#content`, repeated elements as a list.

use super::Mistake;
use roxmltree::{Document, Node, ParsingOptions};
use serde_json::{Map, Value};

pub fn parse(text: &str) -> Result<Value, Mistake> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        let place = error.pos();
        Mistake::at_line(text, place.row as usize, place.col as usize, error.to_string())
    })?;
    let root = document.root_element();
    let mut object = Map::new();
    object.insert(root.tag_name().name().to_owned(), element(root));
    Ok(Value::Object(object))
}

fn element(node: Node<'_, '_>) -> Value {
    let mut object = Map::new();
    for attribute in node.attributes() {
        object.insert(format!("-{}", attribute.name()), attribute.value().into());
    }
    for namespace in node.namespaces() {
        let inherited = node.parent_element().is_some_and(|parent| parent.namespaces().any(|known| known == namespace));
        if !inherited && namespace.name() != Some("xml") {
            object.insert(format!("-{}", namespace.name().unwrap_or("xmlns")), namespace.uri().into());
        }
    }
    let mut content = "";
    for child in node.children() {
        if child.is_element() {
            let value = element(child);
            match object.get_mut(child.tag_name().name()) {
                None => drop(object.insert(child.tag_name().name().to_owned(), value)),
                Some(Value::Array(items)) => items.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        } else if child.is_text() {
            content = child.text().unwrap_or_default().trim_matches(is_invisible);
        }
    }
    if object.is_empty() {
        return content.into();
    }
    if !content.is_empty() {
        object.insert("#content".into(), content.into());
    }
    Value::Object(object)
}

/// Blanks and marks of direction.
fn is_invisible(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}')
}
