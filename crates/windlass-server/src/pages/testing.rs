//! What must hold for the HTML of each page, whatever is shown.

use scraper::{Html, Selector};
use serde_json::Value;
use std::collections::BTreeSet;

/// Names that want to be more than text.
pub const HOSTILE: [&str; 5] = [
    "</title></textarea></script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "\" autofocus onfocus=\"alert(1)\" evil=\"' onmouseover='alert(1)",
    "javascript:alert(1)",
    "\u{202e}txt.exe\u{0} ]]> <!-- {{7*7}} &lt;b&gt; %00 ../../..//evil.example.com",
    "averyveryverylongnamewithoutanyspaceaveryveryverylongnamewithoutanyspaceaveryveryverylongnamewithoutanyspace\
     averyveryverylongnamewithoutanyspaceaveryveryverylongnamewithoutanyspaceaveryveryverylongnamewithoutanyspace",
];

/// Panics unless `html` is valid, has no script or style of its own, each form that changes something carries the token,
/// each control has a label, and ids are unique and found where they are named.
#[track_caller]
pub fn check(html: &str) {
    let page = Html::parse_document(html);
    assert!(page.errors.is_empty(), "{:?}\n{html}", page.errors);
    let select = |selector: &str| {
        let selector = Selector::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        page.select(&selector).collect::<Vec<_>>()
    };

    for element in select("*") {
        for (name, value) in element.value().attrs() {
            assert!(!name.starts_with("on") && name != "style" && name != "srcdoc", "{name} in {}", element.html());
            if ["href", "src", "action", "formaction", "data-stream"].contains(&name) {
                let own = (value.starts_with('/') && !value.starts_with("//")) || value.starts_with(['#', '?']);
                assert!(own || value.starts_with("https://") || value.starts_with("http://"), "{name}={value}");
            }
        }
    }
    assert!(select("style, script:not([src]), iframe, object, embed, base, meta[http-equiv]").is_empty());
    for script in select("script, link[rel=stylesheet]") {
        let address = script.attr("src").or(script.attr("href")).unwrap_or("");
        assert!(address.starts_with("/assets/"), "{address}");
        assert!(script.text().next().is_none());
    }

    for form in select("form[method=post]") {
        let token = Selector::parse("input[type=hidden][name=csrf][value]:not([value=''])").unwrap();
        assert_eq!(form.select(&token).count(), 1, "{}", form.html());
    }

    let mut ids = BTreeSet::new();
    for element in select("[id]") {
        let id = element.attr("id").unwrap_or("");
        assert!(!id.is_empty() && !id.contains(char::is_whitespace), "id {id:?}");
        assert!(ids.insert(id), "two elements with the id {id}");
    }
    for name in ["for", "aria-labelledby", "aria-describedby", "aria-controls", "data-results", "list"] {
        for element in select(&format!("[{name}]")) {
            for id in element.attr(name).unwrap_or("").split_whitespace() {
                assert!(ids.contains(id), "{name}={id} names nothing");
            }
        }
    }
    for link in select("a[href^='#']") {
        let id = &link.attr("href").unwrap_or("")[1..];
        assert!(ids.contains(id), "#{id} leads nowhere");
    }

    let labelled: BTreeSet<&str> = select("label[for]").iter().filter_map(|l| l.attr("for")).collect();
    for control in select("input:not([type=hidden]), select, textarea") {
        let by_id = control.attr("id").is_some_and(|id| labelled.contains(id));
        let around = control.ancestors().filter_map(scraper::ElementRef::wrap).any(|e| e.value().name() == "label");
        assert!(by_id || around || control.attr("aria-label").is_some(), "no label: {}", control.html());
    }
    for element in select("button, a[href], summary, h1, h2, h3, th, label, option") {
        let empty_choice = element.value().name() == "option";
        let text: String = element.text().collect();
        let named = !text.trim().is_empty() || element.attr("aria-label").is_some_and(|l| !l.trim().is_empty());
        assert!(named || empty_choice, "nothing to read: {}", element.html());
    }
    assert_eq!(select("h1").len(), 1, "one first heading");
    assert_eq!(select("main").len(), 1);
}

/// Renders `context` as it is and then with each hostile text in the place of each of its texts; the structure of the page
/// must stay what it was.
#[track_caller]
pub fn check_hostile<C>(context: &C, render: impl Fn(&C) -> String)
where
    C: serde::Serialize + serde::de::DeserializeOwned,
{
    let plain = render(context);
    check(&plain);
    for hostile in HOSTILE {
        let mut value = serde_json::to_value(context).expect("a context is plain data");
        let mut replaced = 0;
        for pointer in texts(&value, String::new()) {
            let old = value.pointer(&pointer).cloned().unwrap_or_default();
            *value.pointer_mut(&pointer).expect("was just found") = Value::String(hostile.into());
            // The name of a variant of an enumeration: not a text.
            if serde_json::from_value::<C>(value.clone()).is_err() {
                *value.pointer_mut(&pointer).expect("was just found") = old;
            } else {
                replaced += 1;
            }
        }
        assert!(replaced > 0 || texts(&value, String::new()).is_empty(), "nothing could be replaced");
        let html = render(&serde_json::from_value(value).expect("was just tried"));
        let scripts = |html: &str| {
            let page = Html::parse_document(html);
            let all = Selector::parse("script, img, style").unwrap();
            page.select(&all).count()
        };
        assert_eq!(scripts(&html), scripts(&plain), "{hostile}\n{html}");
        check_structure(&html);
    }
}

/// The part of [`check`] that holds for any text: names that are equal make ids equal, which no real context has.
#[track_caller]
fn check_structure(html: &str) {
    let page = Html::parse_document(html);
    assert!(page.errors.is_empty(), "{:?}\n{html}", page.errors);
    assert!(!html.contains(['\u{202e}', '\u{0}']));
    let all = Selector::parse("*").unwrap();
    for element in page.select(&all) {
        for (name, value) in element.value().attrs() {
            assert!(
                !name.starts_with("on") && name != "style" && name != "autofocus" && name != "evil",
                "{}",
                element.html()
            );
            if ["href", "src", "action", "formaction", "data-stream"].contains(&name) {
                assert!(!value.starts_with("javascript:") && !value.starts_with("//"), "{name}={value}");
            }
        }
    }
}

/// Pointers to all texts of a value.
fn texts(value: &Value, at: String) -> Vec<String> {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::String(_) => vec![at],
        Value::Array(items) => items.iter().enumerate().flat_map(|(i, v)| texts(v, format!("{at}/{i}"))).collect(),
        Value::Object(map) => map.iter().flat_map(|(k, v)| texts(v, format!("{at}/{}", escape(k)))).collect(),
        _ => Vec::new(),
    }
}
