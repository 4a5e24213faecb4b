//! Frames as the broker sends them. Whatever they contain, lapin's parser accepts the output of the filter, and a
//! message that lapin would accept anyway stays unchanged.

use std::sync::Arc;

use lapin::{
    protocol::basic::parse_properties,
    types::{AMQPValue, FieldTable},
};
use leadhook::broker::wire::{DEPTH, Filter, Marks, Repairs};

const METHOD: u8 = 1;
const HEADER: u8 = 2;

/// Limit of the number of values in a message's headers.
const VALUES: usize = 4_096 + 2;

/// Bytes around a payload: type, channel and size before it, the end mark after it.
const AROUND: usize = 8;

/// Checks any bytes. The first byte says how many bytes arrive at once. The second gives the form of the rest: frames
/// (0), flags and properties (1), headers (2), or a method with its class (3).
pub fn input(input: &[u8]) -> &'static str {
    let [at_once, form, rest @ ..] = input else { return "clean" };
    let at_once = 1 + usize::from(*at_once) * 16;
    match form % 4 {
        0 => check(rest, at_once),
        1 => check(&message(rest), at_once),
        2 => {
            let mut properties = vec![0x20, 0x80];
            properties.extend(u32::try_from(rest.len()).unwrap_or_default().to_be_bytes());
            properties.extend([rest, &b"\x02id"[..]].concat());
            check(&message(&properties), at_once)
        }
        _ => check(&frame(METHOD, rest), at_once),
    }
}

/// Builds a delivery with these flags and properties.
fn message(properties: &[u8]) -> Vec<u8> {
    let deliver = [&b"\0\x3c\0\x3c\x01t"[..], &TAG.to_be_bytes(), b"\0\0\0"].concat();
    let header = [&b"\0\x3c\0\0\0\0\0\0\0\0\0\x03"[..], properties].concat();
    [frame(METHOD, &deliver), frame(HEADER, &header), frame(3, b"{}\n")].concat()
}

const CHANNEL: u16 = 3;
const TAG: u64 = 9;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap_or_default();
    [&[kind][..], &CHANNEL.to_be_bytes(), &size.to_be_bytes(), payload, &[0xCE]].concat()
}

/// Checks every rule on a stream of frames, and names the result.
pub fn check(stream: &[u8], at_once: usize) -> &'static str {
    let (out, violation, marks) = pass(stream, at_once);
    assert_eq!(pass(stream, usize::MAX).0, out, "the result depends on how the bytes arrive");
    assert!(out.len() <= stream.len(), "the output is longer than the input");
    let mut ours = &out[..];
    while let Some((kind, payload, rest)) = next(ours) {
        ours = rest;
        if kind == HEADER {
            let (rest, properties) = parse_properties(&payload[12..]).expect("properties that lapin takes");
            assert!(rest.is_empty(), "bytes after the properties");
            if let Some(headers) = properties.headers() {
                let mut values = 0;
                assert!(depth(headers, &mut values) <= DEPTH && values <= VALUES, "{values} values");
            }
        }
    }
    if violation {
        return "violation";
    }
    let marked = marks.take(CHANNEL, TAG);
    match () {
        () if out == stream => assert_eq!(marked, Repairs::NONE, "an unchanged message is marked as repaired"),
        () if stream.starts_with(&out) => return "incomplete",
        () => return "repaired",
    }
    "clean"
}

fn pass(mut stream: &[u8], at_once: usize) -> (Vec<u8>, bool, Arc<Marks>) {
    let marks = Arc::new(Marks::default());
    let mut filter = Filter::new(marks.clone(), None);
    let mut out = Vec::new();
    let mut violation = false;
    while !stream.is_empty() && !violation {
        let space = filter.space();
        let count = space.len().min(at_once).min(stream.len());
        assert!(count > 0, "room for more");
        space[..count].copy_from_slice(&stream[..count]);
        stream = &stream[count..];
        violation = filter.filled(count).is_err();
        let mut part = [0; 500];
        while !filter.is_drained() {
            let count = filter.take(&mut part);
            out.extend(&part[..count]);
        }
    }
    (out, violation, marks)
}

/// Returns the first frame, if it is complete: its type, its payload, and the bytes after it.
fn next(stream: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let size = u32::from_be_bytes(stream.get(3..7)?.try_into().ok()?) as usize;
    if stream[0] == b'A' {
        return Some((b'A', &stream[1..8], stream.get(8..)?));
    }
    let rest = stream.get(size.checked_add(AROUND)?..)?;
    Some((stream[0], &stream[7..7 + size], rest))
}

/// Returns the depth of the levels below this table, and counts the values.
fn depth(table: &FieldTable, values: &mut usize) -> u32 {
    fn below(value: &AMQPValue, values: &mut usize) -> u32 {
        *values += 1;
        match value {
            AMQPValue::FieldTable(table) => 1 + depth(table, values),
            AMQPValue::FieldArray(array) => {
                1 + array.as_slice().iter().map(|value| below(value, values)).max().unwrap_or_default()
            }
            _ => 0,
        }
    }
    table.inner().values().map(|value| below(value, values)).max().unwrap_or_default()
}
