//! Reads events from files. Splits the bytes at the ends of JSON documents, and never changes them.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{cli::output::Refusal, event::members::members, os_error};

/// One event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// At most 255 bytes.
    pub routing_key: String,
    /// The bytes of the file, unchanged.
    pub body: Bytes,
}

/// How to read files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// The routing key of every event, instead of its `event`.
    pub routing_key: Option<&'a str>,
    /// Whether each file is one message, whatever it holds.
    pub unchecked: bool,
}

/// Everything that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    pub events: Vec<Event>,
    /// The place of each event, for messages.
    pub places: Vec<String>,
}

/// Reads all files before the first event is published, so that a problem in the last file stops everything.
///
/// # Errors
/// A file cannot be read, is empty, is not JSON, or has no routing key.
pub(super) fn read(files: &[PathBuf], rules: Rules<'_>) -> Result<Input, Refusal> {
    let mut input = Input::default();
    for file in files {
        let (name, bytes) = open(file)?;
        split(&name, bytes, rules, &mut input)?;
    }
    Ok(input)
}

fn open(file: &Path) -> Result<(String, Bytes), Refusal> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        ("standard input".to_owned(), io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (file.display().to_string(), std::fs::read(file))
    };
    let bytes = bytes.map_err(|error| {
        let text = format!("cannot read the events: {name}: {}", os_error::words(&error));
        Refusal::usage(text, "name a file with events, or - for standard input")
    })?;
    Ok((name, bytes.into()))
}

/// Splits one file into events: a single JSON document, several in a row (one per line or not), or an array of events.
fn split(name: &str, bytes: Bytes, rules: Rules<'_>, input: &mut Input) -> Result<(), Refusal> {
    if rules.unchecked {
        input.events.push(unchecked(name, bytes, rules)?);
        input.places.push(name.to_owned());
        return Ok(());
    }
    let before = input.events.len();
    for document in serde_json::Deserializer::from_slice(&bytes).into_iter::<&RawValue>() {
        let document = document.map_err(|error| not_json(name, &error))?;
        let elements = if document.get().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(document.get()).map_err(|error| not_json(name, &error))?
        } else {
            vec![document]
        };
        for element in elements {
            let place = format!("{name}: event {}", input.events.len() - before + 1);
            input.events.push(checked(&place, bytes.slice_ref(element.get().as_bytes()), rules)?);
            input.places.push(place);
        }
    }
    if input.events.len() == before {
        let help = "write at least one event into it: a JSON object, or an array of them";
        return Err(Refusal::usage(format!("the file has no event: {name}"), help));
    }
    Ok(())
}

/// Creates a refusal with the library's message, which says what it expected and where. The message quotes no value,
/// because documents are only split here.
fn not_json(name: &str, error: &serde_json::Error) -> Refusal {
    let text = format!("this is not JSON: {name}: {error}");
    Refusal::usage(text, "correct it, or publish it as it is with --unchecked")
}

fn unchecked(name: &str, mut body: Bytes, rules: Rules<'_>) -> Result<Event, Refusal> {
    for ending in [b'\n', b'\r'] {
        if body.last() == Some(&ending) {
            body.truncate(body.len() - 1);
        }
    }
    let routing_key = rules.routing_key.map(str::to_owned).or_else(|| event_of(&body));
    Ok(Event { routing_key: fitting(name, routing_key)?, body })
}

fn checked(place: &str, body: Bytes, rules: Rules<'_>) -> Result<Event, Refusal> {
    let routing_key = rules.routing_key.map(str::to_owned).or_else(|| event_of(&body));
    Ok(Event { routing_key: fitting(place, routing_key)?, body })
}

fn event_of(body: &[u8]) -> Option<String> {
    let mut event = None;
    let read = members(body, |member| {
        if member.name() == "event" && member.value.starts_with('"') {
            event = Some(member.text().into_owned());
        }
    });
    read.ok().and(event)
}

fn fitting(place: &str, routing_key: Option<String>) -> Result<String, Refusal> {
    let what = match routing_key {
        Some(key) if key.len() <= 255 => return Ok(key),
        Some(_) => "the field \"event\" is too long for a routing key, which has at most 255 bytes",
        None => "the field \"event\" with text to route by is missing",
    };
    Err(Refusal::usage(format!("{what}: {place}"), "correct the event, or name the key with --routing-key"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Input, Rules, split};
    use crate::cli::output::{Exit, Refusal};

    const RULES: Rules<'static> = Rules { routing_key: None, unchecked: false };

    fn cut(text: &[u8], rules: Rules<'_>) -> Result<Input, Refusal> {
        let mut input = Input::default();
        split("f.json", Bytes::copy_from_slice(text), rules, &mut input).map(|()| input)
    }

    fn bodies(text: &str) -> Vec<String> {
        let input = cut(text.as_bytes(), RULES).unwrap();
        input.events.iter().map(|event| String::from_utf8(event.body.to_vec()).unwrap()).collect()
    }

    #[test]
    fn bytes_are_cut_and_never_changed() {
        let odd = "{ \"event\" :\t\"lead.queued\", \"n\": 1.0e2,\n  \"n\": \"\\u00e9\" }";
        let line = "{\"event\":\"lead.failed\"}";
        assert_eq!(bodies(&format!("{odd}\n")), [odd], "a single document");
        assert_eq!(bodies(&format!("{line}\n{line}\r\n\n{line}")), [line; 3], "one a line");
        assert_eq!(bodies(&format!("{odd}{line}{odd}")), [odd, line, odd], "one after the other");
        assert_eq!(bodies(&format!("[ {line},\n{odd} ]\n{line}")), [line, odd, line], "an array");
    }

    #[test]
    fn the_routing_key_is_the_event_unless_it_is_given() {
        let key = |text: &str, rules| cut(text.as_bytes(), rules).unwrap().events[0].routing_key.clone();
        assert_eq!(key("{\"event\":\"lead.failed\"}", RULES), "lead.failed");
        let said = Rules { routing_key: Some("lead.x"), ..RULES };
        assert_eq!(key("{\"event\":\"lead.failed\"}", said), "lead.x");
        assert_eq!(key("{}", said), "lead.x");
        let long = format!("{{\"event\":\"{}\"}}", "x".repeat(256));
        assert!(cut(long.as_bytes(), RULES).unwrap_err().text.contains("at most 255 bytes"));
    }

    #[test]
    fn a_text_without_an_event_is_refused_with_its_place_and_without_its_content() {
        for (text, expected) in [
            ("", "the file has no event: f.json"),
            ("[]", "the file has no event: f.json"),
            ("{}", "the field \"event\" with text to route by is missing: f.json: event 1"),
            (
                "{\"event\":\"lead.failed\"}\n{\"event\":7}",
                "the field \"event\" with text to route by is missing: f.json: event 2",
            ),
            (
                "{\"event\":\"lead.failed\"}\n{\"hunter2\" 7}",
                "this is not JSON: f.json: expected `:` at line 2 column 12",
            ),
            ("{\"event\":\"lead.failed\"}\nhunter2", "this is not JSON: f.json: expected value at line 2 column 1"),
        ] {
            let refusal = cut(text.as_bytes(), RULES).unwrap_err();
            assert_eq!(refusal.exit, Exit::Usage);
            assert!(refusal.text.starts_with(expected), "{}", refusal.text);
            assert!(!refusal.text.contains("hunter2"), "{}", refusal.text);
        }
    }

    #[test]
    fn unchecked_is_one_message_as_it_is() {
        let rules = Rules { unchecked: true, routing_key: Some("lead.x") };
        let input = cut(b"{broken\n{\xff\r\n", rules).unwrap();
        assert_eq!(input.events.len(), 1);
        assert_eq!(&input.events[0].body[..], b"{broken\n{\xff");
        assert!(cut(b"{broken", Rules { routing_key: None, ..rules }).unwrap_err().help.contains("--routing-key"));
    }
}
