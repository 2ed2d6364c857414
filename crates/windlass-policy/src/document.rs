//! A document as the engine holds it.

use regorus::Value;

/// Cheap to clone: what several policies are asked about is read once.
#[derive(Debug, Clone)]
pub struct Document(pub(crate) Value);

impl Document {
    /// Reads JSON straight into the engine's form, which takes less memory than a way through another one.
    ///
    /// # Errors
    /// The parser's complaint.
    pub fn parse(json: &str) -> Result<Self, String> {
        Value::from_json_str(json).map(Self).map_err(|error| error.to_string())
    }

    /// Puts a member into an object; does nothing to anything else.
    pub fn insert(&mut self, name: &str, value: serde_json::Value) {
        if let Ok(object) = self.0.as_object_mut() {
            object.insert(name.into(), value.into());
        }
    }

    /// As JSON; what has no form there is null.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}

impl From<&serde_json::Value> for Document {
    fn from(value: &serde_json::Value) -> Self {
        Self(value.clone().into())
    }
}
