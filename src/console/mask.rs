//! A payload without the data of a lead: the fields for routing stay, and of all others only the shape.

use serde_json::Value;

/// Fields of an event that are always shown: ids and words of the sender, which are in logs too.
const SHOWN: [&str; 7] = ["event", "leadId", "submissionId", "campaignId", "organizationId", "status", "timestamp"];

/// Shown instead of a value.
const DOTS: &str = "•••";

/// The payload, indented, with every value masked except those of [`SHOWN`]. A payload that is not JSON is not shown.
pub fn masked(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let plain = SHOWN.contains(&name.as_str()) && (value.is_string() || value.is_null());
                let value = if plain { value } else { hidden(value) };
                (name, value)
            });
            pretty(&Value::Object(fields.collect()))
        }
        Ok(other) => pretty(&hidden(other)),
        Err(_) => format!("{} bytes that are not JSON", body.len()),
    }
}

/// The payload as it is, indented if it is JSON.
pub fn shown(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => pretty(&value),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// Names of fields stay, cut to a usual length, so that people see the structure.
fn hidden(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().map(|(name, value)| (name.chars().take(64).collect(), hidden(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(hidden).collect()),
        Value::Null => Value::Null,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Value::String(DOTS.to_owned()),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_lead_is_left() {
        let body =
            br#"{"event":"lead.delivered","leadId":"l1","status":"delivered","extra":"Hidden","campaignId":{"x":"Doe"},
            "data":{"firstName":"John","age":42,"ok":true,"none":null,"more":[{"email":"john@example.com"}]}}"#;
        let text = masked(body);
        for lead in ["John", "42", "true", "john@", "Hidden", "Doe"] {
            assert!(!text.contains(lead), "{lead}: {text}");
        }
        for kept in ["lead.delivered", "\"l1\"", "firstName", "email", "null"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(shown(body).contains("john@example.com"));
    }

    #[test]
    fn what_is_no_event_is_hidden_too() {
        assert_eq!(masked(b"\"John\""), format!("\"{DOTS}\""));
        assert_eq!(masked(b"[1,\"John\"]").matches(DOTS).count(), 2);
        assert_eq!(masked(b"John\xff"), "5 bytes that are not JSON");
        assert_eq!(shown(b"<b>\xff"), "<b>\u{fffd}");
    }
}
