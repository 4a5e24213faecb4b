//! Keeps upstream's properties and headers outside our allow-list as JSON inside one header. There they cannot act on
//! the broker again: an `expiration`, a `CC`, a `user_id`, or a forged header with one of our names.

use base64::{Engine, prelude::BASE64_STANDARD};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::{Map, Value, json};

/// Longest encoding in a job, in bytes. All headers of a message must fit into one frame (128 KiB by default), and a
/// job's headers also hold its history.
const MAXIMUM: usize = 32 * 1024;

/// Longest encoding in a rejected message, in bytes. Its other headers are short, but escapes can make the encoding
/// longer than upstream's headers.
const MAXIMUM_REJECTED: usize = 96 * 1024;

/// Levels of nested tables and lists that are kept. JSON readers have limits (serde_json: 128), and a few KiB of
/// headers can nest thousands of levels.
const DEEPEST: usize = 32;

/// Headers that the broker adds and acts on. Leadhook never publishes them again.
const BROKER: [&str; 6] = [
    "x-death",
    "x-delivery-count",
    "x-acquired-count",
    "x-stream-offset",
    "x-opt-rabbitmq-delivery-count",
    "x-opt-rabbitmq-received-time",
];

/// Returns whether the broker added this header (ARCHITECTURE.md).
pub fn is_broker_header(name: &str) -> bool {
    BROKER.contains(&name) || name.starts_with("x-first-death-") || name.starts_with("x-last-death-")
}

/// Returns the headers without those of the broker.
pub fn without_broker_headers(headers: &FieldTable) -> FieldTable {
    let kept = headers.into_iter().filter(|(name, _)| !is_broker_header(name.as_str()));
    FieldTable::from(
        kept.map(|(name, value)| (name.clone(), value.clone())).collect::<std::collections::BTreeMap<_, _>>(),
    )
}

/// Returns the headers that no broker acts on, for publishing a message again as it is.
pub fn inert_headers(properties: &BasicProperties) -> std::collections::BTreeMap<ShortString, AMQPValue> {
    let headers = properties.headers().as_ref().map(without_broker_headers).unwrap_or_default();
    let mut headers = headers.inner().clone();
    // They make the broker publish copies elsewhere ("sender-selected distribution").
    headers.retain(|name, _| name.as_str() != "CC" && name.as_str() != "BCC");
    headers
}

/// Returns the properties that no broker acts on, for a persistent message without headers. Leadhook publishes only
/// these of a message that it did not write. A broker acts on the others. `user_id` must be the publisher's own,
/// `expiration` and the priority change how a queue treats the message, and some values of `reply_to` close the
/// channel.
pub fn inert(from: &BasicProperties) -> BasicProperties {
    let mut to = BasicProperties::default().with_delivery_mode(2);
    if let Some(value) = from.content_type() {
        to = to.with_content_type(value.clone());
    }
    if let Some(value) = from.content_encoding() {
        to = to.with_content_encoding(value.clone());
    }
    if let Some(value) = from.correlation_id() {
        to = to.with_correlation_id(value.clone());
    }
    if let Some(value) = from.message_id() {
        to = to.with_message_id(value.clone());
    }
    if let Some(value) = from.timestamp() {
        to = to.with_timestamp(*value);
    }
    if let Some(value) = from.kind() {
        to = to.with_type(value.clone());
    }
    if let Some(value) = from.app_id() {
        to = to.with_app_id(value.clone());
    }
    to
}

/// Encodes everything outside the allow-list as JSON text for one header of a job. Returns `None` if there is nothing.
/// Omits headers for which `keep` is true, because the job carries them elsewhere.
pub fn encode(properties: &BasicProperties, keep: impl Fn(&str) -> bool) -> Option<String> {
    bounded(properties, to_json(properties, keep)?, MAXIMUM)
}

/// Encodes the same for a rejected message, with all headers.
pub fn encode_rejected(properties: &BasicProperties) -> Option<String> {
    bounded(properties, to_json(properties, |_| false)?, MAXIMUM_REJECTED)
}

fn bounded(properties: &BasicProperties, all: Value, maximum: usize) -> Option<String> {
    let text = all.to_string();
    if text.len() <= maximum {
        return Some(text);
    }
    // The id stays, because `webhook-id`s depend on it.
    let dropped = format!("{} bytes of upstream headers, kept are {maximum}", text.len());
    let id = properties.message_id().as_ref().map(ShortString::as_str);
    Some(json!({ "dropped": dropped, "message_id": id }).to_string())
}

/// Returns the same as JSON of any length, for files.
pub fn to_json(properties: &BasicProperties, keep: impl Fn(&str) -> bool) -> Option<Value> {
    let headers: Map<String, Value> = properties
        .headers()
        .iter()
        .flat_map(|table| table.inner())
        .filter(|(name, _)| !is_broker_header(name.as_str()) && !keep(name.as_str()))
        .map(|(name, value)| (name.to_string(), value_to_json(value, DEEPEST)))
        .collect();
    let mut all = Map::new();
    let texts: [(&str, &Option<ShortString>); 7] = [
        ("message_id", properties.message_id()),
        ("app_id", properties.app_id()),
        ("user_id", properties.user_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("content_encoding", properties.content_encoding()),
        ("cluster_id", properties.cluster_id()),
    ];
    all.extend(texts.iter().filter_map(|(name, text)| Some(((*name).to_owned(), json!(text.as_ref()?.as_str())))));
    if let Some(priority) = properties.priority() {
        all.insert("priority".into(), json!(priority));
    }
    if !headers.is_empty() {
        all.insert("headers".into(), Value::Object(headers));
    }
    (!all.is_empty()).then_some(Value::Object(all))
}

/// Reads upstream's `message_id` from the result of [`encode`].
pub fn message_id(encoded: &str) -> Option<String> {
    let said: Value = serde_json::from_str(encoded).ok()?;
    said.get("message_id")?.as_str().map(str::to_owned)
}

/// Converts a value. `depth` is the number of levels of tables and lists that may follow.
fn value_to_json(value: &AMQPValue, depth: usize) -> Value {
    match value {
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth == 0 => {
            json!({ "dropped": format!("nested more than {DEEPEST} deep") })
        }
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::DecimalValue(value) => json!({ "scale": value.scale, "value": value.value }),
        AMQPValue::ShortString(value) => json!(value.as_str()),
        AMQPValue::LongString(value) => bytes_to_json(value.as_bytes()),
        AMQPValue::FieldArray(values) => {
            values.as_slice().iter().map(|value| value_to_json(value, depth - 1)).collect()
        }
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::FieldTable(table) => {
            table.inner().iter().map(|(name, value)| (name.to_string(), value_to_json(value, depth - 1))).collect()
        }
        AMQPValue::ByteArray(value) => bytes_to_json(value.as_slice()),
        AMQPValue::Void => Value::Null,
    }
}

fn bytes_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_published_again_has_no_header_that_a_broker_acts_upon() {
        let long = |text: &str| AMQPValue::LongString(text.into());
        let names = ["mine", "CC", "BCC", "x-delivery-count", "x-death", "x-first-death-queue"];
        let headers: std::collections::BTreeMap<ShortString, _> =
            names.into_iter().map(|name| (name.into(), long("x"))).collect();
        let properties = BasicProperties::default().with_headers(FieldTable::from(headers));
        let kept = inert_headers(&properties);
        assert_eq!(kept.keys().map(ShortString::as_str).collect::<Vec<_>>(), ["mine"]);
        assert!(inert_headers(&BasicProperties::default()).is_empty());
    }
}
