//! Reading an event's JSON strictly: every object's keys once, every value well-formed, and only the top level kept.
//!
//! serde_json keeps the last of two equal keys in silence, while other readers keep the first: two parties would route
//! or sign different meanings. So the whole document is walked, which also proves that it *is* JSON before anyone
//! is asked to deliver it. Messages of serde's own type errors quote values, so types are checked here instead.

use std::{cell::Cell, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::rejection::{RejectReason, Rejection};

/// What a value is; the text of a string is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Bool,
    Number,
    String(String),
    Array,
    Object,
}

/// The fields at the top of an event.
pub(super) struct Fields(Vec<(String, Shape)>);

/// Reads a body that must be one JSON object.
pub(super) fn parse(body: &[u8]) -> Result<Fields, Rejection> {
    if body.is_empty() {
        return Err(Rejection::new(RejectReason::NotJson, "the body is empty"));
    }
    let duplicate = Cell::new(false);
    let mut fields = Vec::with_capacity(8);
    let mut json = serde_json::Deserializer::from_slice(body);
    let walk = Walk { duplicate: &duplicate, fields: Some(&mut fields) };
    let shape = walk.deserialize(&mut json).and_then(|shape| json.end().map(|()| shape)).map_err(|error| {
        let place = format!("at line {} column {}", error.line(), error.column());
        match duplicate.get() {
            true => Rejection::new(RejectReason::DuplicateKey, format!("an object holds the same key twice, {place}")),
            false => Rejection::new(RejectReason::NotJson, format!("not well-formed JSON, {place}")),
        }
    })?;
    match shape {
        Shape::Object => Ok(Fields(fields)),
        _ => Err(Rejection::new(RejectReason::NotJson, format!("expected an object, it is {}", shape.name()))),
    }
}

impl Fields {
    /// The shape of a field that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Shape, Rejection> {
        self.take(name).ok_or_else(|| {
            let detail = format!("field \"{name}\" is missing");
            Rejection::new(RejectReason::MissingField, detail)
        })
    }

    /// A string that must be there.
    pub(super) fn string(&mut self, name: &str) -> Result<String, Rejection> {
        match self.required(name)? {
            Shape::String(text) => Ok(text),
            other => Err(wrong(name, "a string", Some(&other))),
        }
    }

    /// A string that may be left out (or null).
    pub(super) fn optional_string(&mut self, name: &str) -> Result<Option<String>, Rejection> {
        match self.take(name) {
            None | Some(Shape::Null) => Ok(None),
            Some(Shape::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", Some(&other))),
        }
    }

    /// The rejection of a field with the wrong type.
    pub(super) fn wrong(&self, name: &str, expected: &str) -> Rejection {
        wrong(name, expected, None)
    }

    fn take(&mut self, name: &str) -> Option<Shape> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

fn wrong(name: &str, expected: &str, found: Option<&Shape>) -> Rejection {
    let found = found.map(|shape| format!(", it is {}", shape.name())).unwrap_or_default();
    Rejection::new(RejectReason::InvalidField, format!("field \"{name}\": expected {expected}{found}"))
}

impl Shape {
    fn name(&self) -> &'static str {
        match self {
            Shape::Null => "null",
            Shape::Bool => "a boolean",
            Shape::Number => "a number",
            Shape::String(_) => "a string",
            Shape::Array => "an array",
            Shape::Object => "an object",
        }
    }
}

/// Walks one value. `fields` is there at the top only.
struct Walk<'a> {
    duplicate: &'a Cell<bool>,
    fields: Option<&'a mut Vec<(String, Shape)>>,
}

impl<'a> Walk<'a> {
    fn below(&self) -> Walk<'a> {
        Walk { duplicate: self.duplicate, fields: None }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        while items.next_element_seed(self.below())?.is_some() {}
        Ok(Shape::Array)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Shape, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let shape = match seen.contains(&key) {
                true => {
                    self.duplicate.set(true);
                    return Err(A::Error::custom("duplicate key"));
                }
                false => entries.next_value_seed(self.below())?,
            };
            if let Some(fields) = self.fields.as_mut() {
                fields.push((key.clone(), shape));
            }
            seen.insert(key);
        }
        Ok(Shape::Object)
    }
}
