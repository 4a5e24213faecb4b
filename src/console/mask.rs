//! Shows a payload without the data of a lead: the fields for routing stay, and all others keep only their shape.

use serde_json::Value;

use crate::event::members::members;

/// Fields of an event that are always shown: ids and words of the sender, which are in logs too.
const SHOWN: [&str; 7] = ["event", "leadId", "submissionId", "campaignId", "organizationId", "status", "timestamp"];

/// Shown instead of a value.
const DOTS: &str = "•••";

/// Returns the payload, indented, with every value masked except those of [`SHOWN`]. A payload that is not JSON is not
/// shown.
pub fn masked(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let plain = SHOWN.contains(&name.as_str()) && !value.is_object() && !value.is_array();
                let value = if plain { value } else { hidden(value) };
                (name, value)
            });
            pretty(&Value::Object(fields.collect()))
        }
        Ok(other) => pretty(&hidden(other)),
        Err(_) => masked_text(body).unwrap_or_else(|| format!("{} bytes that are not a JSON object", body.len())),
    }
}

/// Masks an event that [`Value`] cannot hold: a lone surrogate, `1e400`, hundreds of levels.
fn masked_text(body: &[u8]) -> Option<String> {
    let mut lines = Vec::new();
    members(body, |member| {
        let plain = SHOWN.contains(&member.name().as_ref()) && !member.value.starts_with(['{', '[']);
        let value = if plain { member.value.to_owned() } else { hidden_text(member.value) };
        lines.push(format!("  {}: {value}", member.key));
    })
    .ok()?;
    Some(format!("{{\n{}\n}}", lines.join(",\n")))
}

/// Hides all values except `null` in a JSON text. Keys, which a colon follows, stay, and so does the layout.
fn hidden_text(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => string_end(rest),
            _ if first.is_ascii_alphanumeric() || first == '-' => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        let stays = end == 1 && "{}[]:, \t\r\n".contains(first);
        match stays || token == "null" || after.trim_start().starts_with(':') {
            true => shown.push_str(token),
            false => shown.push_str(&format!("\"{DOTS}\"")),
        }
        rest = after;
    }
    shown
}

/// Returns the byte position after the string at the beginning of a text.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Returns the payload unmasked, indented if it is JSON.
pub fn shown(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => pretty(&value),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// Masks a value. Names of fields stay, cut to 64 characters, so that people see the structure.
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
    fn forms_that_no_value_can_hold_are_masked_as_well() {
        let deep = format!("{}\"Doe\"{}", "[".repeat(500), "]".repeat(500));
        for odd in [r#""Jo\ud83dhn\"""#, "1e400", &deep] {
            let body = format!(
                r#"{{"leadId":7,"data":{{"\ud83d\"key": 1,"firstName" : {odd},"n":[null,-42.5e+3,true,"John"]}},"x":"John"}}"#
            );
            let text = masked(body.as_bytes());
            for lead in ["John", "Jo\\", "Doe", "42", "true", "1e400"] {
                assert!(!text.contains(lead), "{lead}: {text}");
            }
            for kept in ["\"leadId\": 7", "firstName", "key", "null", DOTS] {
                assert!(text.contains(kept), "{kept}: {text}");
            }
        }
    }

    #[test]
    fn what_is_no_event_is_hidden_too() {
        assert_eq!(masked(b"\"John\""), format!("\"{DOTS}\""));
        assert_eq!(masked(b"[1,\"John\"]").matches(DOTS).count(), 2);
        assert_eq!(masked(b"John\xff"), "5 bytes that are not a JSON object");
        assert_eq!(shown(b"<b>\xff"), "<b>\u{fffd}");
    }
}
