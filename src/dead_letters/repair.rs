//! Repairs a message that is not a usable event: sets or removes fields of its body, names its organization, or takes a
//! body that a person has edited.
//!
//! A field is edited in place, by the slices of [`crate::event::members`]. All other bytes stay as upstream wrote them,
//! because the receiver reads them. `data` is never decoded.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    event::{
        FIELDS,
        members::{Member, members},
    },
    rejection::{RejectReason, Rejection},
};

/// The field of the body that names the organization.
const ORGANIZATION: &str = "organizationId";

/// Values of [`Change::field`] for parts of a message that are not fields.
const HEADER: &str = "header organization-id";
const WHOLE: &str = "(the whole body)";
const LAYOUT: &str = "(spaces or order)";

/// A change to make to each of the chosen messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Changes fields at the top of the body, and the organization.
    Fields {
        /// Names, and values as JSON. A repeated field appears once afterwards.
        set: Vec<(String, String)>,
        /// Names of fields to remove.
        remove: Vec<String>,
        /// The organization that the message must name.
        organization: Option<String>,
    },
    /// Replaces the whole body of the one message whose body is `was`.
    Body {
        /// The body before the edit.
        was: Bytes,
        /// The edited body.
        now: Bytes,
    },
}

/// A message after its repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The new body.
    pub body: Bytes,
    /// The new value of the AMQP header `organization-id`; `None` if it stays as it is.
    pub organization: Option<String>,
}

/// One difference that a repair makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Change {
    /// The field's name, or a part of the message.
    pub field: String,
    /// `added`, `changed` or `removed`.
    pub how: &'static str,
    /// The value before, as JSON. It may be lead data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// The value afterwards, as JSON. It may be lead data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl Change {
    /// Returns the field if Leadhook reads it or it is a part of the message, else the words "another field".
    pub fn known_field(&self) -> &str {
        let known = FIELDS.contains(&self.field.as_str()) || [HEADER, WHOLE, LAYOUT].contains(&self.field.as_str());
        if known { &self.field } else { "another field" }
    }
}

/// Reads `FIELD=TEXT` or `FIELD:=JSON`. Returns the name, and the value as JSON.
///
/// # Errors
/// The text has neither form.
pub fn assignment(said: &str) -> Result<(String, String), String> {
    let (name, value) = said.split_once('=').ok_or("expected FIELD=TEXT or FIELD:=JSON")?;
    let (name, json) = match name.strip_suffix(':') {
        Some(name) => match serde_json::from_str::<&RawValue>(value) {
            Ok(value) => (name, value.get().to_owned()),
            Err(_) => return Err(format!("the value of {name}:= is not JSON; FIELD=TEXT takes any text")),
        },
        None => (name, quoted(value)),
    };
    if name.is_empty() { Err("the name of the field is missing".to_owned()) } else { Ok((name.to_owned(), json)) }
}

/// Returns a text as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Repair {
    /// Applies the change. `organization` is the AMQP header `organization-id`, if there is one.
    ///
    /// # Errors
    /// The body is not a JSON object, so it has no fields; or it is not the body that was edited.
    pub fn apply(&self, body: &Bytes, organization: Option<&str>) -> Result<Repaired, Rejection> {
        let (set, remove, named) = match self {
            Repair::Body { was, now } if was == body => {
                return Ok(Repaired { body: now.clone(), organization: None });
            }
            Repair::Body { .. } => {
                let detail = "another message with the same id has a different body; it was left unchanged";
                return Err(Rejection::new(RejectReason::NotJson, detail));
            }
            Repair::Fields { set, remove, organization } => (set, remove, organization),
        };
        let members = list(body)?;
        let mut set: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let remove: BTreeSet<_> = remove.iter().map(String::as_str).collect();
        let mut header = None;
        if let Some(named) = named {
            // If header and body both name it, they must agree. If the body does not name it, the body stays as it is.
            let in_body = set.iter().any(|(name, _)| *name == ORGANIZATION)
                || !remove.contains(ORGANIZATION) && members.iter().any(|member| member.name() == ORGANIZATION);
            if in_body {
                set.push((ORGANIZATION, quoted(named)));
            }
            header = Some(named.clone()).filter(|named| !in_body || organization.is_some_and(|header| header != named));
        }
        // The body is UTF-8, because `list` refuses anything else.
        let now = edited(&String::from_utf8_lossy(body), &set, &remove)?;
        let body = if now.as_bytes() == body.as_ref() { body.clone() } else { now.into() };
        Ok(Repaired { body, organization: header })
    }
}

/// Returns the differences between two bodies, and of the header `organization-id`. Compares field by field if both are
/// objects.
pub fn differences(was: (&[u8], Option<&str>), repaired: &Repaired) -> Vec<Change> {
    let ((body, header), now) = (was, &repaired.body[..]);
    let mut changes = match (list(body), list(now)) {
        (Ok(was), Ok(now)) => between(&was, &now),
        (_, _) if body != now => {
            vec![Change { field: WHOLE.to_owned(), how: "changed", was: None, now: None }]
        }
        (_, _) => Vec::new(),
    };
    if let Some(new) = repaired.organization.as_deref().filter(|new| header != Some(*new)) {
        let how = if header.is_some() { "changed" } else { "added" };
        let (was, now) = (header.map(quoted), Some(quoted(new)));
        changes.push(Change { field: HEADER.to_owned(), how, was, now });
    }
    if changes.is_empty() && body != now {
        changes.push(Change { field: LAYOUT.to_owned(), how: "changed", was: None, now: None });
    }
    changes
}

fn between(was: &[Member<'_>], now: &[Member<'_>]) -> Vec<Change> {
    let mut places = BTreeMap::new();
    let mut fields = Vec::<(String, [Vec<&str>; 2])>::new();
    for (side, member) in was.iter().map(|member| (0, member)).chain(now.iter().map(|member| (1, member))) {
        let place = *places.entry(member.name()).or_insert_with_key(|name| {
            fields.push((name.clone().into_owned(), Default::default()));
            fields.len() - 1
        });
        fields[place].1[side].push(member.value);
    }
    let changed = fields.into_iter().filter(|(_, [before, after])| before != after);
    changed
        .map(|(field, [before, after])| {
            let how = match (before.is_empty(), after.is_empty()) {
                (true, _) => "added",
                (_, true) => "removed",
                _ => "changed",
            };
            let joined = |values: &[&str]| (!values.is_empty()).then(|| values.join(" and "));
            Change { field, how, was: joined(&before), now: joined(&after) }
        })
        .collect()
}

fn list(body: &[u8]) -> Result<Vec<Member<'_>>, Rejection> {
    let mut all = Vec::new();
    members(body, |member| all.push(member)).map(|()| all)
}

/// Returns the object `text` without the fields of `remove`, and then with those of `set`. Each set field appears once:
/// at its first place, or behind the last field. A removed field takes its comma along.
fn edited(text: &str, set: &[(&str, String)], remove: &BTreeSet<&str>) -> Result<String, Rejection> {
    let members = list(text.as_bytes())?;
    let start = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let end = |part: &str| start(part) + part.len();
    // If a field is set several times, the last value counts.
    let values: BTreeMap<_, _> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut done = BTreeSet::new();
    let mut kept = Vec::new();
    for (at, member) in members.iter().enumerate() {
        let name = member.name();
        if remove.contains(name.as_ref()) {
            continue;
        }
        match values.get_key_value(name.as_ref()) {
            Some((name, value)) if done.insert(*name) => kept.push((at, *value)),
            Some(_) => {}
            None => kept.push((at, member.value)),
        }
    }
    let opening = text.find('{').map_or(0, |at| at + 1);
    let (first, last) = (members.first().map_or(opening, |first| start(first.key)), members.last());
    let mut now = text[..if kept.is_empty() { opening } else { first }].to_owned();
    for (number, (at, value)) in kept.iter().enumerate() {
        let member = members[*at];
        now += &text[start(member.key)..start(member.value)];
        now += value;
        if number + 1 < kept.len() {
            now += &text[end(member.value)..start(members[at + 1].key)];
        }
    }
    let mut comma = if kept.is_empty() { "" } else { "," };
    for (name, _) in set {
        if done.insert(name) {
            now += &format!("{comma}{}:{}", quoted(name), values[name]);
            comma = ",";
        }
    }
    if kept.is_empty() {
        now += &text[opening..first];
    }
    now += &text[last.map_or(opening, |last| end(last.value))..];
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(set: &[&str], remove: &[&str], organization: Option<&str>) -> Repair {
        Repair::Fields {
            set: set.iter().map(|said| assignment(said).unwrap()).collect(),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            organization: organization.map(str::to_owned),
        }
    }

    fn repaired(repair: &Repair, body: &str, header: Option<&str>) -> Repaired {
        repair.apply(&Bytes::copy_from_slice(body.as_bytes()), header).unwrap()
    }

    fn check(repair: &Repair, body: &str, expected: &str) {
        let repaired = repaired(repair, body, None);
        assert_eq!(std::str::from_utf8(&repaired.body).unwrap(), expected, "{body}");
    }

    /// Blanks, escapes, odd numbers and repeated keys, which a JSON serializer would change.
    #[test]
    fn all_bytes_but_those_of_the_field_stay() {
        let odd = "{\n \"data\" :\t{\"a\":1e400,\"a\":\"\\ud83d\"} ,\"\\u006ceadId\":\"old\"  , \"x\": 1.0e2 }\n";
        check(&fields(&["leadId=new"], &[], None), odd, &odd.replace("\"old\"", "\"new\""));
        check(&fields(&["x:=[1, 2]"], &[], None), odd, &odd.replace("1.0e2", "[1, 2]"));
        check(&fields(&["y=a \"b\""], &[], None), odd, &odd.replace("1.0e2 ", "1.0e2,\"y\":\"a \\\"b\\\"\" "));
        check(&fields(&[], &["leadId"], None), odd, &odd.replace("\"\\u006ceadId\":\"old\"  , ", ""));
        check(&fields(&[], &["x"], None), odd, &odd.replace("  , \"x\": 1.0e2", ""));
        check(&fields(&[], &["nothing"], None), odd, odd);
    }

    #[test]
    fn fields_are_set_and_removed_wherever_they_are() {
        check(&fields(&["a=1"], &[], None), "{}", "{\"a\":\"1\"}");
        check(&fields(&["a:=1"], &[], None), " { } ", " {\"a\":1 } ");
        check(&fields(&[], &["a"], None), "{\"a\":1}", "{}");
        check(&fields(&[], &["a"], None), "{\"a\":1,\"b\":2,\"a\":3}", "{\"b\":2}");
        check(&fields(&["a:=9"], &[], None), "{\"a\":1,\"b\":2,\"\\u0061\":3}", "{\"a\":9,\"b\":2}");
        check(&fields(&["a:=1", "b:=2"], &["c"], None), "{\"c\":0}", "{\"a\":1,\"b\":2}");
        check(&fields(&["a:=1"], &["a"], None), "{\"a\":0,\"b\":0}", "{\"b\":0,\"a\":1}");
        check(&fields(&["b:=1", "b:=2"], &["a"], None), "{ \"a\":1 , \"a\":2 }", "{\"b\":2  }");
        check(&fields(&["d:=1"], &["b", "c"], None), "{\"a\":1 , \"b\":1,\"c\":2\t}", "{\"a\":1,\"d\":1\t}");
    }

    /// 50,000 fields took hours when each was compared with all the others.
    #[test]
    fn as_many_fields_as_an_event_can_have_are_repaired_at_once() {
        let many: String = (0..50_000).map(|n| format!("\"{n}\":1,\"x\":1,")).collect();
        let body = format!("{{{many}\"y\":1}}");
        let repaired = repaired(&fields(&["x=once"], &["y"], None), &body, None);
        assert!(repaired.body.starts_with(b"{\"0\":1,\"x\":\"once\",\"1\":1,"));
        assert!(repaired.body.ends_with(b",\"49999\":1}"));
        let changes = differences((body.as_bytes(), None), &repaired);
        let said: Vec<_> = changes.iter().map(|change| (change.field.as_str(), change.how)).collect();
        assert_eq!(said, [("x", "changed"), ("y", "removed")]);
    }

    #[test]
    fn the_organization_is_named_where_the_message_names_it_and_else_in_the_header() {
        let repair = fields(&[], &[], Some("acme"));
        let (without, with) = ("{\"a\":1}", "{\"organizationId\":\"old\"}");
        for (body, header, expected, new) in [
            (without, None, without, Some("acme")),
            (without, Some("old"), without, Some("acme")),
            (with, None, "{\"organizationId\":\"acme\"}", None),
            (with, Some("old"), "{\"organizationId\":\"acme\"}", Some("acme")),
            (with, Some("acme"), "{\"organizationId\":\"acme\"}", None),
        ] {
            let repaired = repaired(&repair, body, header);
            assert_eq!(repaired.body, expected, "{body} {header:?}");
            assert_eq!(repaired.organization.as_deref(), new, "{body} {header:?}");
        }
    }

    #[test]
    fn what_has_no_fields_is_left() {
        for body in ["", "[1]", "{\"a\":", "\u{feff}{}"] {
            let left = fields(&["a=1"], &[], None).apply(&Bytes::copy_from_slice(body.as_bytes()), None);
            assert_eq!(left.unwrap_err().reason, RejectReason::NotJson, "{body}");
        }
        let edited = Repair::Body { was: "{".into(), now: "{}".into() };
        assert_eq!(edited.apply(&"{".into(), None).unwrap().body, "{}");
        assert!(edited.apply(&"{ ".into(), None).is_err());
    }

    #[test]
    fn assignments_are_text_unless_they_are_json_on_purpose() {
        for (said, name, json) in [
            ("campaignId=42", "campaignId", "\"42\""),
            ("a=b=c", "a", "\"b=c\""),
            ("a=", "a", "\"\""),
            ("data:={\"a\" : 1}", "data", "{\"a\" : 1}"),
            ("a:=null", "a", "null"),
        ] {
            assert_eq!(assignment(said), Ok((name.to_owned(), json.to_owned())), "{said}");
        }
        for said in ["campaignId", "=1", ":=1", "data:={"] {
            assert!(assignment(said).is_err(), "{said}");
        }
    }

    #[test]
    fn differences_name_fields_and_hold_values_apart() {
        let was = "{\"leadId\":\"a\",\"x\":1,\"x\":2,\"data\":{\"b\":1}}";
        let now = Repaired {
            body: "{\"leadId\":7,\"x\":1,\"y\":{},\"data\":{\"b\":1}}".into(),
            organization: Some("acme".into()),
        };
        let changes = differences((was.as_bytes(), None), &now);
        let said: Vec<_> = changes.iter().map(|change| (change.field.as_str(), change.how)).collect();
        let expected = [("leadId", "changed"), ("x", "changed"), ("y", "added"), ("header organization-id", "added")];
        assert_eq!(said, expected);
        assert_eq!((changes[0].was.as_deref(), changes[0].now.as_deref()), (Some("\"a\""), Some("7")));
        let same = Repaired { body: "{ \"a\":1}".into(), organization: None };
        assert_eq!(differences((b"{\"a\":1}", None), &same)[0].field, "(spaces or order)");
        assert_eq!(differences((b"{\"a\"", None), &same)[0].field, "(the whole body)");
        assert!(differences((b"{ \"a\":1}", None), &same).is_empty());
    }
}
