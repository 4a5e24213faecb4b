//! From files to events: bytes are cut where JSON documents begin and end, and never changed in between.

use std::{
    borrow::Cow,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{cli::output::Refusal, event::EventKind};

/// One event as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// At most 255 bytes.
    pub routing_key: String,
    /// Byte for byte as it stood in its file.
    pub body: Bytes,
}

/// What the command line says about reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Used for every event, instead of what its `event` says.
    pub routing_key: Option<&'a str>,
    /// Each file is one message, whatever it holds.
    pub unchecked: bool,
    /// Beyond this size the worker rejects.
    pub max_event_bytes: usize,
}

/// Everything that was read: events, and what the worker will not like about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    pub events: Vec<Event>,
    pub warnings: Vec<String>,
}

/// Reads all files before anything is published: a problem in the last file stops the first event too.
///
/// # Errors
/// A file cannot be read, holds no event, is not JSON, or names no routing key.
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
    let bytes = bytes.map_err(|error| Refusal::usage(format!("{name}: cannot be read: {error}")))?;
    Ok((name, bytes.into()))
}

/// Cuts one file into events: a single JSON document, several of them one after the other (one a line, or not), or an
/// array of events.
fn split(name: &str, bytes: Bytes, rules: Rules<'_>, input: &mut Input) -> Result<(), Refusal> {
    if rules.unchecked {
        input.events.push(unchecked(name, bytes, rules)?);
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
            let number = input.events.len() - before + 1;
            let event = checked(name, number, bytes.slice_ref(element.get().as_bytes()), rules, &mut input.warnings)?;
            input.events.push(event);
        }
    }
    if input.events.len() == before {
        return Err(Refusal::usage(format!("{name}: holds no event")));
    }
    Ok(())
}

/// The library's message says what was expected and where; for documents that are only cut, it quotes no value.
fn not_json(name: &str, error: &serde_json::Error) -> Refusal {
    Refusal::usage(format!("{name}: is not JSON: {error} (--unchecked publishes it all the same)"))
}

fn unchecked(name: &str, mut body: Bytes, rules: Rules<'_>) -> Result<Event, Refusal> {
    for ending in [b'\n', b'\r'] {
        if body.last() == Some(&ending) {
            body.truncate(body.len() - 1);
        }
    }
    let routing_key = rules.routing_key.map(str::to_owned).or_else(|| event_of(&body));
    let missing = || Refusal::usage(format!("{name}: names no event: say --routing-key"));
    Ok(Event { routing_key: fitting(name, routing_key.ok_or_else(missing)?)?, body })
}

fn checked(
    name: &str,
    number: usize,
    body: Bytes,
    rules: Rules<'_>,
    warnings: &mut Vec<String>,
) -> Result<Event, Refusal> {
    let place = format!("{name}: event {number}");
    let kind = event_of(&body);
    match &kind {
        Some(kind) if EventKind::parse(kind).is_none() => {
            warnings.push(format!("{place}: its event is none that the worker knows, it will be rejected"));
        }
        Some(_) => {}
        None if rules.routing_key.is_some() => {
            warnings.push(format!("{place}: has no event as text, the worker will reject it"));
        }
        None => return Err(Refusal::usage(format!("{place}: has no event as text to route it by: say --routing-key"))),
    }
    if body.len() > rules.max_event_bytes {
        let (long, limit) = (body.len(), rules.max_event_bytes);
        warnings.push(format!("{place}: has {long} bytes, the worker rejects more than {limit}"));
    }
    let routing_key = rules.routing_key.map(str::to_owned).or(kind).unwrap_or_default();
    Ok(Event { routing_key: fitting(&place, routing_key)?, body })
}

fn event_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        event: Cow<'a, str>,
    }
    serde_json::from_slice::<Head<'_>>(body).ok().map(|head| head.event.into_owned())
}

fn fitting(place: &str, routing_key: String) -> Result<String, Refusal> {
    if routing_key.len() > 255 {
        return Err(Refusal::usage(format!("{place}: a routing key has at most 255 bytes: say --routing-key")));
    }
    Ok(routing_key)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Input, Rules, split};
    use crate::cli::output::{Exit, Refusal};

    const RULES: Rules<'static> = Rules { routing_key: None, unchecked: false, max_event_bytes: 60 };

    fn cut(text: &[u8], rules: Rules<'_>) -> Result<Input, Refusal> {
        let mut input = Input::default();
        split("f.json", Bytes::copy_from_slice(text), rules, &mut input).map(|()| input)
    }

    fn bodies(text: &str) -> Vec<String> {
        let input = cut(text.as_bytes(), RULES).unwrap();
        assert_eq!(input.warnings, [""; 0]);
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
    fn the_routing_key_is_the_event_unless_it_is_said() {
        let key = |text: &str, rules| cut(text.as_bytes(), rules).unwrap().events[0].routing_key.clone();
        assert_eq!(key("{\"event\":\"lead.failed\"}", RULES), "lead.failed");
        let said = Rules { routing_key: Some("lead.x"), ..RULES };
        assert_eq!(key("{\"event\":\"lead.failed\"}", said), "lead.x");
        assert_eq!(key("{}", said), "lead.x");
        let long = format!("{{\"event\":\"{}\"}}", "x".repeat(256));
        assert!(cut(long.as_bytes(), RULES).unwrap_err().text.contains("at most 255 bytes"));
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_place_and_without_its_content() {
        for (text, expected) in [
            ("", "f.json: holds no event"),
            ("[]", "f.json: holds no event"),
            ("{}", "f.json: event 1: has no event as text to route it by: say --routing-key"),
            ("{\"event\":\"lead.failed\"}\n{\"event\":7}", "f.json: event 2: has no event as text"),
            ("{\"event\":\"lead.failed\"}\n{\"hunter2\" 7}", "f.json: is not JSON: expected `:` at line 2 column 12"),
            ("{\"event\":\"lead.failed\"}\nhunter2", "f.json: is not JSON: expected value at line 2 column 1"),
        ] {
            let refusal = cut(text.as_bytes(), RULES).unwrap_err();
            assert_eq!(refusal.exit, Exit::Usage);
            assert!(refusal.text.starts_with(expected), "{}", refusal.text);
            assert!(!refusal.text.contains("hunter2"), "{}", refusal.text);
        }
    }

    #[test]
    fn unchecked_is_one_message_as_it_is() {
        let rules = Rules { unchecked: true, routing_key: Some("lead.x"), ..RULES };
        let input = cut(b"{broken\n{\xff\r\n", rules).unwrap();
        assert_eq!(input.events.len(), 1);
        assert_eq!(&input.events[0].body[..], b"{broken\n{\xff");
        assert!(cut(b"{broken", Rules { routing_key: None, ..rules }).unwrap_err().text.contains("say --routing-key"));
    }

    #[test]
    fn what_the_worker_will_reject_is_a_warning() {
        let input = cut(b"{\"event\":\"lead.lost\"}", RULES).unwrap();
        assert_eq!(input.warnings, ["f.json: event 1: its event is none that the worker knows, it will be rejected"]);
        let long = format!("{{\"event\":\"lead.failed\",\"data\":\"{}\"}}", "x".repeat(60));
        let input = cut(long.as_bytes(), RULES).unwrap();
        assert_eq!(input.warnings, ["f.json: event 1: has 93 bytes, the worker rejects more than 60"]);
    }
}
