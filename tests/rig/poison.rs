//! Properties and headers that upstream may send and that lapin cannot read, as the bytes that follow the body size.

use super::scripted_broker::{long, short};

/// Latin-1.
pub const NOT_UTF8: &[u8] = b"J\xf6rg";

/// Encodes flags and properties: delivery mode 2, and these short strings by the bit of their flag.
pub fn texts(texts: &[(u16, &[u8])]) -> Vec<u8> {
    let flags = texts.iter().fold(1 << 12, |flags: u16, (bit, _)| flags | 1 << bit);
    let before = texts.iter().filter(|(bit, _)| *bit > 12).flat_map(|(_, text)| short(text));
    let behind = texts.iter().filter(|(bit, _)| *bit < 12).flat_map(|(_, text)| short(text));
    flags.to_be_bytes().into_iter().chain(before).chain([2]).chain(behind).collect()
}

/// Encodes flags and properties: delivery mode 2, and a header table with these entries.
pub fn headers(entries: &[u8]) -> Vec<u8> {
    [&[0x30, 0x00][..], &long(entries), &[2]].concat()
}

/// Encodes an entry of a header table.
pub fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

/// Encodes a value with a length: a text, an array or a table.
pub fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &long(content)].concat()
}

/// Encodes arrays and tables inside each other, in the order that `kinds` repeats.
pub fn nested(depth: usize, kinds: &[u8]) -> Vec<u8> {
    (0..depth).fold(vec![b'V'], |inner, level| match kinds[level % kinds.len()] {
        b'A' => value(b'A', &inner),
        kind => value(kind, &[&[0][..], &inner].concat()),
    })
}

/// Returns properties that upstream may send, each with the reason for its rejection. `None`: lapin can read them, and
/// the event is delivered.
pub fn kinds() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let unreadable = Some("unreadable_properties");
    let id = |bytes: &[u8]| texts(&[(7, bytes)]);
    let many: Vec<u8> = (0..18_000u32).flat_map(|n| entry(format!("{n:05}").as_bytes(), b"V")).collect();
    vec![
        ("message_id in Latin-1", id(NOT_UTF8), unreadable),
        ("message_id that is cut", id(b"id-\xe2\x82"), unreadable),
        ("message_id with a surrogate", id(b"\xed\xa0\x80"), unreadable),
        ("message_id of 255 bytes FF", id(&[0xff; 255]), unreadable),
        ("content_type", texts(&[(15, b"application/\xff")]), unreadable),
        ("content_encoding", texts(&[(14, b"\xfe")]), unreadable),
        ("correlation_id", texts(&[(10, NOT_UTF8)]), unreadable),
        ("reply_to", texts(&[(9, NOT_UTF8)]), unreadable),
        ("type", texts(&[(5, NOT_UTF8)]), unreadable),
        ("app_id", texts(&[(3, NOT_UTF8)]), unreadable),
        ("cluster_id", texts(&[(2, NOT_UTF8)]), unreadable),
        (
            "many texts",
            texts(&[(15, NOT_UTF8), (14, NOT_UTF8), (10, NOT_UTF8), (7, NOT_UTF8), (5, NOT_UTF8)]),
            unreadable,
        ),
        ("a header's name", headers(&entry(NOT_UTF8, b"V")), unreadable),
        ("a name in a table", headers(&entry(b"t", &value(b'F', &entry(b"\xff", b"V")))), unreadable),
        ("a name in an array", headers(&entry(b"a", &value(b'A', &value(b'F', &entry(b"\xff", b"V"))))), unreadable),
        (
            "organization-id not UTF-8",
            headers(&entry(b"organization-id", &value(b'S', b"\xff"))),
            Some("invalid_field"),
        ),
        ("organization-id a table", headers(&entry(b"organization-id", &value(b'F', b""))), Some("invalid_field")),
        ("arrays 33 deep", headers(&entry(b"n", &nested(33, b"A"))), unreadable),
        ("arrays 32 deep", headers(&entry(b"n", &nested(32, b"A"))), None),
        ("arrays 4,000 deep", headers(&entry(b"n", &nested(4_000, b"A"))), unreadable),
        ("arrays 20,000 deep", headers(&entry(b"n", &nested(20_000, b"A"))), unreadable),
        ("tables 4,000 deep", headers(&entry(b"n", &nested(4_000, b"F"))), unreadable),
        ("both 8,000 deep", headers(&entry(b"n", &nested(8_000, b"AF"))), unreadable),
        ("100,000 values", headers(&entry(b"n", &value(b'A', &[b'V'; 100_000]))), unreadable),
        ("18,000 headers", headers(&many), unreadable),
        ("headers of a whole frame", headers(&entry(b"n", &value(b'S', &[b'x'; 131_030]))), None),
        ("odd numbers", headers(&entry(b"D", b"D\xff\xff\xff\xff\xff")), None),
    ]
}
