//! A target's rules for answers: the statuses that mean delivered, the final ones, and the body that a 2xx needs.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// The rules of one target. By default a 2xx means delivered, and every other status except 410 is retried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Statuses besides 2xx that mean delivered.
    pub accept: Statuses,
    /// Statuses that fail a delivery at once.
    pub never_retry: Statuses,
    /// The body that a 2xx needs to mean delivered. A status in `accept` means delivered by itself: its page is rarely
    /// JSON.
    pub accept_if: Option<Arc<Condition>>,
    /// Whether refused deliveries go to the failed queue.
    pub keep_refused: bool,
    /// Whether attempts carry a token that the receiver may refuse (`oauth2`).
    pub token: bool,
}

/// Some HTTP statuses, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Statuses(Box<[u16]>);

impl Statuses {
    /// Returns whether `status` is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.contains(&status)
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the lowest status that is in both.
    pub fn shared_with(&self, other: &Statuses) -> Option<u16> {
        self.0.iter().copied().find(|status| other.contains(*status))
    }
}

impl FromIterator<u16> for Statuses {
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Statuses {
        let mut statuses: Vec<u16> = statuses.into_iter().collect();
        statuses.sort_unstable();
        statuses.dedup();
        Statuses(statuses.into())
    }
}

/// Prints `409, 422`, or `none`.
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

/// The value that the JSON body of a 2xx must have in one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Condition {
    /// The place: a JSON Pointer (RFC 6901).
    #[serde(rename = "json")]
    pub pointer: String,
    /// The value: text, a number, true or false, or null.
    pub equals: Value,
}

/// Whether a body meets a [`Condition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// The body has the value at that place.
    Yes,
    /// The body has another value there, or none.
    No,
    /// The body is not JSON.
    Unreadable,
}

impl Condition {
    /// Checks a whole body. Ignores a byte order mark at its start, which some receivers send.
    pub fn check(&self, body: &[u8]) -> Met {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let Ok(body) = serde_json::from_slice::<&RawValue>(body) else { return Met::Unreadable };
        // A value that cannot be decoded is a different value: a number of 400 digits, half a surrogate pair, or deep
        // nesting.
        let found = self.find(body).and_then(|found| serde_json::from_str(found.get()).ok());
        match found.is_some_and(|found| is_same(&self.equals, &found)) {
            true => Met::Yes,
            false => Met::No,
        }
    }

    /// Returns the value that the pointer leads to. Decodes only the values on the path: the rest may be any JSON.
    fn find<'b>(&self, mut value: &'b RawValue) -> Option<&'b RawValue> {
        for token in self.pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            value = match value.get().as_bytes().first()? {
                b'{' => {
                    *serde_json::from_str::<HashMap<String, &'b RawValue>>(value.get()).ok()?.get(token.as_str())?
                }
                b'[' => {
                    let index = token.parse().ok().filter(|index: &usize| index.to_string() == token)?;
                    *serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(index)?
                }
                _ => return None,
            };
        }
        Some(value)
    }
}

/// Prints `/success = true`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.pointer, self.equals)
    }
}

/// Returns whether two values are equal. JSON has one type of numbers, so 1 and 1.0 are the same.
fn is_same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(wanted), Value::Number(found)) => wanted == found || wanted.as_f64() == found.as_f64(),
        _ => wanted == found,
    }
}

/// Returns whether a text is a JSON Pointer: empty or beginning with `/`, and with `~` only as `~0` or `~1`.
pub fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/')) && text.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(pointer: &str, equals: Value, body: &str) -> Met {
        Condition { pointer: pointer.to_owned(), equals }.check(body.as_bytes())
    }

    #[test]
    fn a_body_says_yes_no_or_nothing() {
        #[rustfmt::skip]
        let table = [
            ("/success", json!(true), r#"{"success": true}"#, Met::Yes),
            ("/success", json!(true), "\u{feff}{\"success\": true}", Met::Yes),
            ("/success", json!(true), r#"{"success": false}"#, Met::No),
            ("/success", json!(true), r#"{"success": "true"}"#, Met::No),
            ("/success", json!(true), r#"{"Success": true}"#, Met::No),
            ("/success", json!(true), "[]", Met::No),
            ("/success", json!(true), "true", Met::No),
            ("", json!(true), "true", Met::Yes),
            // Values beside the path may hold anything that is JSON.
            ("/success", json!(true), r#"{"lead": {"name": "\ud83d", "n": 1e400}, "success": true}"#, Met::Yes),
            ("/success", json!(true), r#"{"success": 1e400}"#, Met::No),
            ("/success", json!("a"), r#"{"success": "\ud83d"}"#, Met::No),
            ("/a~1b/m~0n/1", json!(7), r#"{"a/b": {"m~n": [0, 7.0]}}"#, Met::Yes),
            ("/01", json!(7), "[0, 7]", Met::No),
            ("/success", json!(true), r#"{"success": false, "success": true}"#, Met::Yes),
            ("", json!("ok"), r#""ok""#, Met::Yes),
            ("/results/0/status", json!("ok"), r#"{"results": [{"status": "ok"}]}"#, Met::Yes),
            ("/a~1b/~0", json!(1), r#"{"a/b": {"~": 1.0}}"#, Met::Yes),
            ("/code", json!(0), r#"{"code": 0.0}"#, Met::Yes),
            ("/code", json!(0.5), r#"{"code": 5e-1}"#, Met::Yes),
            ("/code", json!(0), r#"{"code": 1}"#, Met::No),
            ("/code", json!(0), r#"{"code": "0"}"#, Met::No),
            ("/error", json!(null), r#"{"error": null}"#, Met::Yes),
            ("/error", json!(null), "{}", Met::No),
            ("/success", json!(true), "", Met::Unreadable),
            ("/success", json!(true), "ok", Met::Unreadable),
            ("/success", json!(true), r#"{"success": true"#, Met::Unreadable),
            ("/success", json!(true), r#"{"success": true} x"#, Met::Unreadable),
        ];
        for (pointer, equals, body, met) in table {
            assert_eq!(check(pointer, equals, body), met, "{pointer} {body}");
        }
    }

    #[test]
    fn no_depth_of_a_body_is_a_danger() {
        assert_eq!(check("/0", json!(1), &"[".repeat(60_000)), Met::Unreadable);
    }

    #[test]
    fn pointers() {
        for right in ["", "/", "/a", "/a/0/b c", "/~0", "/~1x", "/ü"] {
            assert!(is_pointer(right), "{right}");
        }
        for wrong in ["a", "$.a", "#/a", "/~", "/~2", "/a~"] {
            assert!(!is_pointer(wrong), "{wrong}");
        }
    }

    #[test]
    fn statuses_in_order() {
        let [few, none] = [vec![422, 409, 422], Vec::new()].map(Statuses::from_iter);
        assert_eq!((few.to_string(), none.to_string()), ("409, 422".into(), "none".into()));
        assert!(few.contains(409) && !few.contains(410) && !none.contains(409));
        assert_eq!(few.shared_with(&Statuses::from_iter([500, 422])), Some(422));
        assert_eq!(few.shared_with(&none), None);
    }

    #[test]
    fn a_body_may_be_nested_deeply_beside_the_way() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(check("/success", json!(true), &format!("{{\"deep\": {deep}, \"success\": true}}")), Met::Yes);
        assert_eq!(check("/deep", json!(true), &format!("{{\"deep\": {deep}}}")), Met::No);
    }
}
