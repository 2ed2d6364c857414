//! What the provider manages: a file of JSON for each item, in `$HOME/.depot/items`. Beside it, in `$HOME/.depot/behave`, a file
//! that has the name of an item says how making or changing it goes.

use serde_json::{Map, Value, json};
use std::path::PathBuf;

pub struct World(PathBuf);

/// How a change of an item goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Well,
    /// It is refused.
    Fail,
    /// The provider dies before it does anything.
    Crash,
    /// The provider dies when it has done it, before it can say so.
    CrashAfter,
    /// It takes until the file is gone.
    Hang,
}

impl World {
    pub fn of_home() -> Self {
        Self(PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".depot"))
    }

    fn item(&self, id: &str) -> PathBuf {
        self.0.join("items").join(format!("{}.json", id.replace(['/', '.'], "_")))
    }

    pub fn read(&self, id: &str) -> Option<Map<String, Value>> {
        serde_json::from_slice(&std::fs::read(self.item(id)).ok()?).ok()
    }

    pub fn write(&self, id: &str, item: &Map<String, Value>) -> std::io::Result<()> {
        let path = self.item(id);
        std::fs::create_dir_all(self.0.join("items"))?;
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec_pretty(item)?)?;
        std::fs::rename(draft, path)
    }

    /// Removing what is gone already is no mistake.
    pub fn remove(&self, id: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.item(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every item, as `windlass adopt --listing` reads it.
    pub fn list(&self) -> Value {
        let entries = std::fs::read_dir(self.0.join("items")).into_iter().flatten().flatten();
        let mut items: Vec<Value> = entries
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .map(|item: Value| json!({ "type": "depot_item", "id": item["id"], "name": item["name"] }))
            .collect();
        items.sort_by_key(|item| item["id"].to_string());
        Value::Array(items)
    }

    pub fn behaviour(&self, name: &str) -> Behaviour {
        let text = std::fs::read_to_string(self.0.join("behave").join(name)).unwrap_or_default();
        match text.trim() {
            "fail" => Behaviour::Fail,
            "crash" => Behaviour::Crash,
            "crash-after" => Behaviour::CrashAfter,
            "hang" => Behaviour::Hang,
            _ => Behaviour::Well,
        }
    }
}
