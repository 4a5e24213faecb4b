//! A message that a test took from a queue.

use lapin::{BasicProperties, types::AMQPValue};

/// A message that was taken from a queue.
pub struct Message {
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    /// Returns a header as text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Returns the attempts in its history.
    pub fn history(&self) -> Vec<leadhook::job::HistoryEntry> {
        self.text("leadhook-history").map(|text| serde_json::from_str(&text).expect("a history")).unwrap_or_default()
    }
}
