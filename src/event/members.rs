//! Reads the top-level members of a JSON object without decoding them.
//!
//! serde_json checks the whole text against the grammar of RFC 8259 and decodes none of it. It skips a `RawValue`
//! without recursion, so each level of nesting costs one byte and no stack. A value is a slice of the body, so a repair
//! can replace it in place.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::rejection::{RejectReason, Rejection};

/// One member, as slices of the body without the surrounding whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key, with its quotes and escapes.
    pub key: &'a str,
    /// The value, as written.
    pub value: &'a str,
}

impl<'a> Member<'a> {
    /// Returns the decoded key: `"\u0065vent"` is `event`.
    pub fn name(&self) -> Cow<'a, str> {
        string(self.key)
    }

    /// Returns the text of a string, or any other value as written.
    pub fn text(&self) -> Cow<'a, str> {
        text_of(self.value)
    }
}

/// Calls `each` with every member of the body, which must be one JSON object.
///
/// # Errors
/// `not_json`, with the place or the kind of the fault. By then, `each` may have seen the members before the fault.
pub fn members<'a>(body: &'a [u8], each: impl FnMut(Member<'a>)) -> Result<(), Rejection> {
    let text = text(body)?;
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Members(each)).and_then(|()| json.end()).map_err(|error| match error.is_data() {
        true => not_json(format!("expected an object, it is {}", kind(text.trim_ascii_start()))),
        false => not_json(format!("not well-formed JSON, at line {} column {}", error.line(), error.column())),
    })
}

/// Returns the body as text. JSON is UTF-8 without a byte order mark (RFC 8259, section 8.1).
fn text(body: &[u8]) -> Result<&str, Rejection> {
    let marks: [(&[u8], &str); 3] =
        [(b"\xef\xbb\xbf", "UTF-8"), (b"\xfe\xff", "UTF-16"), (b"\xff\xfe", "UTF-16 or UTF-32")];
    if let Some((_, name)) = marks.iter().find(|(mark, _)| body.starts_with(mark)) {
        return Err(not_json(format!("the body begins with a byte order mark ({name}); JSON is UTF-8 without one")));
    }
    if body.is_empty() {
        return Err(not_json("the body is empty".to_owned()));
    }
    std::str::from_utf8(body).map_err(|error| not_json(format!("not UTF-8, at byte {}", error.valid_up_to() + 1)))
}

/// Returns the text of a string, or any other value as written.
pub(super) fn text_of(value: &str) -> Cow<'_, str> {
    if value.starts_with('"') { string(value) } else { Cow::Borrowed(value) }
}

/// Returns the text of a JSON string. A string with an escape that Unicode cannot hold (a lone surrogate) stays as
/// written, so different strings stay different.
pub(super) fn string(spelled: &str) -> Cow<'_, str> {
    let inner = &spelled[1..spelled.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(spelled).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Names the type of a value by its first byte.
pub(super) fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn not_json(detail: String) -> Rejection {
    Rejection::new(RejectReason::NotJson, detail)
}

struct Members<F>(F);

impl<'de, F: FnMut(Member<'de>)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            (self.0)(Member { key: key.get(), value: value.get() });
        }
        Ok(())
    }
}
