use std::sync::Arc;

use lapin::{
    BasicProperties,
    protocol::basic::parse_properties,
    types::{AMQPValue, FieldTable},
};

use super::*;

const CHANNEL: u16 = 5;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(CHANNEL.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(END);
    frame
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn long(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// Returns a `basic.deliver` with tag 7.
fn delivery(exchange: &[u8], routing_key: &[u8]) -> Vec<u8> {
    let parts = [&[0, 60, 0, 60][..], &short(b"tag"), &7u64.to_be_bytes(), &[0], &short(exchange), &short(routing_key)];
    frame(METHOD, &parts.concat())
}

fn content_header(flags: u16, properties: &[u8]) -> Vec<u8> {
    let parts = [&60u16.to_be_bytes()[..], &[0, 0], &3u64.to_be_bytes(), &flags.to_be_bytes(), properties];
    frame(HEADER, &parts.concat())
}

/// Returns a content header with this table as its headers, and a message id behind them.
fn with_headers(entries: &[u8]) -> Vec<u8> {
    let properties = [&long(b'?', entries)[1..], &short(b"id-1")].concat();
    content_header(HEADERS | MESSAGE_ID, &properties)
}

const HEADERS: u16 = 1 << 13;
const MESSAGE_ID: u16 = 1 << 7;

/// Runs the bytes through a filter, `at_once` bytes at a time.
fn pass(bytes: &[u8], at_once: usize) -> (Vec<u8>, Result<(), Violation>, Arc<Marks>) {
    let marks = Arc::new(Marks::default());
    let mut filter = Filter::new(marks.clone(), None);
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = filter.space();
        let count = space.len().min(at_once).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        let filled = filter.filled(count);
        let mut some = [0; 1000];
        while !filter.is_drained() {
            let count = filter.take(&mut some);
            out.extend(&some[..count]);
        }
        if filled.is_err() {
            return (out, filled, marks);
        }
    }
    (out, Ok(()), marks)
}

struct Seen {
    properties: BasicProperties,
    repairs: Repairs,
    bytes: usize,
}

/// Delivers a message with this content header. Returns the properties that lapin reads, and the marks.
#[track_caller]
fn deliver(header: &[u8]) -> Seen {
    let before = delivery(b"lead.events", b"lead.delivered");
    let body = frame(BODY, b"{}\n");
    let message = [&before[..], header, &body].concat();
    let (out, filled, marks) = pass(&message, usize::MAX);
    assert_eq!(filled, Ok(()));
    for at_once in [1, 7, 100] {
        assert!(pass(&message, at_once).0 == out, "{at_once} bytes at once");
    }
    let header = &out[before.len()..out.len() - body.len()];
    assert_eq!((&out[..before.len()], &out[out.len() - body.len()..]), (&before[..], &body[..]));
    let size = u32::from_be_bytes(header[3..HEAD].try_into().unwrap()) as usize;
    assert_eq!((header.len(), header.last()), (size + HEAD + 1, Some(&END)));
    let (rest, properties) = parse_properties(&header[HEAD + 12..header.len() - 1]).expect("readable properties");
    assert_eq!(rest, [0; 0]);
    Seen { properties, repairs: marks.take(CHANNEL, 7), bytes: header.len() }
}

/// Returns the headers that remain of these entries, and the repairs. The length and the message id behind the headers
/// must stay the same.
#[track_caller]
fn headers(entries: &[u8]) -> (FieldTable, Repairs) {
    let header = with_headers(entries);
    let seen = deliver(&header);
    assert_eq!(seen.bytes, header.len());
    assert_eq!(seen.properties.message_id().as_ref().unwrap().as_str(), "id-1");
    (seen.properties.headers().clone().unwrap(), seen.repairs)
}

fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

/// Returns nested arrays.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(vec![b'V'], |inner, _| long(b'A', &inner))
}

#[test]
fn a_readable_message_passes_as_it_is() {
    let kinds: [&[u8]; 17] = [
        b"t\x01",
        b"b\x80",
        b"B\xff",
        b"s\x80\x00",
        b"U\x00\x01",
        b"u\xff\xff",
        b"I\x80\x00\x00\x00",
        b"i\xff\xff\xff\xff",
        b"l\x80\x00\x00\x00\x00\x00\x00\x00",
        b"L\x7f\x00\x00\x00\x00\x00\x00\x00",
        b"f\x7f\xc0\x00\x00",
        b"d\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"D\xff\xff\xff\xff\xff",
        b"T\xff\xff\xff\xff\xff\xff\xff\xff",
        b"V",
        b"S\x00\x00\x00\x02\xff\xfe",
        b"x\x00\x00\x00\x01\xff",
    ];
    let mut entries: Vec<u8> =
        kinds.iter().enumerate().flat_map(|(n, value)| entry(&[b'a' + n as u8], value)).collect();
    entries.extend(entry("Jörg".as_bytes(), &nested(31)));
    entries.extend(entry(b"t", &long(b'F', &entry(b"", b"V"))));
    let header = with_headers(&entries);
    let all = [delivery(b"x", "ö".as_bytes()), header.clone(), frame(BODY, b"abc"), frame(HEARTBEAT, b"")].concat();
    let (out, filled, marks) = pass(&all, usize::MAX);
    assert_eq!((out, filled, marks.take(CHANNEL, 7)), (all, Ok(()), Repairs::NONE));
    assert_eq!(deliver(&header).properties.headers().as_ref().unwrap().inner().len(), kinds.len() + 2);
}

#[test]
fn each_short_string_that_is_not_utf_8_is_repaired() {
    for bit in [15, 14, 10, 9, 8, 7, 5, 4, 3, 2] {
        let seen = deliver(&content_header(1 << bit, &short(b"J\xf6rg")));
        assert_eq!(seen.repairs, Repairs::of_property(1 << bit));
    }
    let seen = deliver(&content_header(MESSAGE_ID, &short(b"J\xf6rg")));
    assert_eq!(seen.properties.message_id().as_ref().unwrap().as_str(), "J?rg");
    assert_eq!(seen.repairs.words(), "message_id is not UTF-8");
}

#[test]
fn the_name_of_a_header_is_repaired_at_any_depth() {
    let inner = long(b'F', &entry(b"\xff", b"t\x01"));
    let (table, repairs) = headers(&[entry(b"J\xf6rg", b"V"), entry(b"a", &long(b'A', &inner))].concat());
    assert_eq!(repairs, Repairs::HEADER_NAME);
    assert_eq!(table.inner()["J?rg"], AMQPValue::Void);
    let AMQPValue::FieldArray(array) = &table.inner()["a"] else { panic!("{table:?}") };
    let AMQPValue::FieldTable(inner) = &array.as_slice()[0] else { panic!("{table:?}") };
    assert_eq!(inner.inner()["?"], AMQPValue::Boolean(true));
}

#[test]
fn what_is_nested_too_deep_becomes_bytes() {
    let (_, repairs) = headers(&entry(b"fine", &nested(32)));
    assert_eq!(repairs, Repairs::NONE);
    for depth in [33, 34, 4_000] {
        let (table, repairs) = headers(&entry(b"deep", &nested(depth)));
        assert_eq!(repairs, Repairs::TOO_DEEP, "{depth}");
        let mut value = &table.inner()["deep"];
        for _ in 0..32 {
            let AMQPValue::FieldArray(array) = value else { panic!("{depth}: {value:?}") };
            value = &array.as_slice()[0];
        }
        let rest = nested(depth - 32);
        assert_eq!(*value, AMQPValue::ByteArray(rest[5..].into()), "{depth}");
    }
}

#[test]
fn what_is_malformed_becomes_bytes_and_its_neighbours_stay() {
    let broken: [&[u8]; 6] =
        [b"\x05a", b"\x01aZ", b"\x01al\x00", b"\x01aS\xff\xff\xff\xff", b"\x01aF\x00\x00\x00\x09", b"\x01a"];
    for content in broken {
        let entries = [entry(b"a", b"t\x01"), entry(b"bad", &long(b'F', content)), entry(b"z", b"t\x00")].concat();
        let (table, repairs) = headers(&entries);
        assert_eq!(repairs, Repairs::MALFORMED_HEADER, "{content:?}");
        assert_eq!(table.inner()["bad"], AMQPValue::ByteArray(content.into()));
        assert_eq!((&table.inner()["a"], &table.inner()["z"]), (&AMQPValue::Boolean(true), &AMQPValue::Boolean(false)));
    }
}

#[test]
fn headers_that_are_malformed_themselves_keep_what_comes_before() {
    // The rest has no readable entry. Whatever its length, the repair turns it into one.
    for length in 1..250 {
        let mut rest = vec![0xff; length];
        rest[0] = 0xfe;
        let (table, repairs) = headers(&[entry(b"a", b"t\x01"), rest].concat());
        assert_eq!(repairs, Repairs::MALFORMED_HEADER, "{length}");
        assert_eq!(table.inner().len(), if length == 1 { 1 } else { 2 }, "{length}");
        assert_eq!(table.inner().contains_key("a"), length > 1, "{length}");
    }
    // A table of one byte is impossible, so the headers and everything behind them go.
    let seen = deliver(&with_headers(b"\x00"));
    assert_eq!((seen.repairs.has(Repairs::CUT), seen.properties), (true, BasicProperties::default()));
}

#[test]
fn too_many_values_become_bytes() {
    let list = |count| entry(b"list", &long(b'A', &vec![b'V'; count]));
    assert_eq!(headers(&list(4_095)).1, Repairs::NONE);
    let (table, repairs) = headers(&list(100_000));
    assert_eq!(repairs, Repairs::TOO_MANY);
    assert_eq!(table.inner()["list"], AMQPValue::ByteArray(vec![b'V'; 100_000].into()));
    let many: Vec<_> = (0..20_000u16).flat_map(|n| entry(&n.to_be_bytes().map(|byte| byte & 0x7f), b"V")).collect();
    let (table, repairs) = headers(&many);
    assert!(repairs.has(Repairs::TOO_MANY) && table.inner().len() <= 4_097, "{}", table.inner().len());
}

#[test]
fn properties_that_do_not_fit_are_cut_off() {
    let cut = |flags, properties: &[u8]| {
        let seen = deliver(&content_header(flags, properties));
        assert_eq!(seen.repairs, Repairs::CUT);
        seen.properties
    };
    let typed = BasicProperties::default().with_content_type("json".into());
    let json = short(b"json");
    assert_eq!(cut(1 << 15 | MESSAGE_ID, &[&json[..], b"\x09abc"].concat()), typed);
    assert_eq!(cut(1 << 15 | 1 << 6, &[&json[..], b"\x00\x00"].concat()), typed);
    assert_eq!(cut(1 << 15, &[&json[..], b"more"].concat()), typed);
    assert_eq!(cut(1 << 15 | HEADERS | 1 << 12, &[&json[..], b"\xff\xff\xff\xff\x01"].concat()), typed);
    assert_eq!(cut(1 << 15 | 2, &json), typed);
    // More flags would follow, so nothing is known of the properties behind them.
    assert_eq!(cut(1 << 15 | 1, &[b"\x00\x00", &json[..]].concat()), BasicProperties::default());
    assert_eq!(cut(0xffff, b""), BasicProperties::default());
}

#[test]
fn a_content_header_that_the_broker_made_too_large_loses_its_headers() {
    // A publisher's largest frame, with RabbitMQ's own x-delivery-count added in front.
    let large = |size: usize| {
        let entries = [entry(b"x-delivery-count", b"l\0\0\0\0\0\0\0\x01"), entry(b"h", &long(b'S', &vec![b'a'; size]))];
        let table = long(b'?', &entries.concat());
        let parts = [&short(b"json")[..], &table[1..], &[2], &short(b"J\xf6rg")];
        content_header(1 << 15 | HEADERS | 1 << 12 | MESSAGE_ID, &parts.concat())
    };
    assert_eq!(deliver(&large(130_000)).repairs, Repairs::of_property(MESSAGE_ID));
    let kept = BasicProperties::default().with_content_type("json".into()).with_delivery_mode(2);
    let kept = kept.with_message_id("J?rg".into());
    for size in [131_040, 300_000] {
        let seen = deliver(&large(size));
        assert!(seen.repairs.has(Repairs::TOO_LARGE), "{size}: {:?}", seen.repairs);
        assert_eq!(seen.properties, kept, "{size}");
    }
    // RabbitMQ 4 makes headers from properties of AMQP 1.0, which has no such limit.
    let (out, filled, _) = pass(&large(40 << 20), usize::MAX);
    assert_eq!((out, filled), (pass(&large(131_040), usize::MAX).0, Ok(())));
}

#[test]
fn a_content_header_that_is_too_large_and_wrong_is_repaired_all_the_same() {
    let large = vec![b'a'; 200_000];
    let beyond = [&short(b"json")[..], b"\xff\xff\xff\xff", &large].concat();
    let typed = BasicProperties::default().with_content_type("json".into());
    for (flags, properties, kept) in [
        (1 << 15 | HEADERS | MESSAGE_ID, &beyond, typed),
        (1 << 15 | HEADERS | 1, &beyond, BasicProperties::default()),
        (1 << 15, &large, BasicProperties::default()),
        (0, &large, BasicProperties::default()),
    ] {
        let seen = deliver(&content_header(flags, properties));
        assert!(seen.repairs.has(Repairs::TOO_LARGE), "{flags}: {:?}", seen.repairs);
        assert_eq!(seen.properties, kept, "{flags}");
    }
}

#[test]
fn exchange_and_routing_key_are_repaired_and_marked() {
    let message = [delivery(b"\xff", b"lead.\xf6"), content_header(0, b"")].concat();
    let (out, filled, marks) = pass(&message, 3);
    assert_eq!((out, filled), ([delivery(b"?", b"lead.?"), content_header(0, b"")].concat(), Ok(())));
    let repairs = marks.take(CHANNEL, 7);
    assert!(repairs.has(Repairs::EXCHANGE) && repairs.has(Repairs::ROUTING_KEY), "{repairs:?}");
    assert_eq!(marks.take(CHANNEL, 7), Repairs::NONE, "each mark is returned once");
}

#[test]
fn other_methods_of_the_broker_are_repaired_and_mark_nothing() {
    let close = |text: &[u8]| frame(METHOD, &[&[0, 20, 0, 40, 1, 148][..], &short(text), &[0, 60, 0, 40]].concat());
    let returned = |key: &[u8]| {
        frame(METHOD, &[&[0, 60, 0, 50, 1, 56][..], &short(b"NO_ROUTE"), &short(b""), &short(key)].concat())
    };
    let get_ok = |key: &[u8]| {
        frame(
            METHOD,
            &[&[0, 60, 0, 71][..], &9u64.to_be_bytes(), &[0], &short(b"x"), &short(key), &[0, 0, 0, 0]].concat(),
        )
    };
    let before = [
        close(b"no queue '\xe2\x82"),
        returned(b"\xff"),
        content_header(0, b""),
        get_ok(b"\xff"),
        content_header(0, b""),
    ];
    let after = [close(b"no queue '??"), returned(b"?"), content_header(0, b""), get_ok(b"?"), content_header(0, b"")];
    let (out, filled, marks) = pass(&before.concat(), usize::MAX);
    assert_eq!((out, filled), (after.concat(), Ok(())));
    assert_eq!(marks.take(CHANNEL, 9), Repairs::ROUTING_KEY, "a fetched message has a tag too");
    assert_eq!(marks.take(CHANNEL, 7), Repairs::NONE);
}

#[test]
fn marks_of_an_earlier_channel_with_the_same_number_are_forgotten() {
    let open_ok = frame(METHOD, &[0, 20, 0, 11, 0, 0, 0, 0]);
    let message = [delivery(b"", b"\xff"), content_header(0, b""), open_ok].concat();
    assert_eq!(pass(&message, usize::MAX).2.take(CHANNEL, 7), Repairs::NONE);
}

#[test]
fn frames_have_a_bound_that_the_broker_cannot_lift() {
    let tune = |size: u32| frame(METHOD, &[&[0, 10, 0, 30, 0, 0][..], &size.to_be_bytes(), &[0, 60]].concat());
    for (proposed, agreed) in [(131_072, 131_072), (0, 1 << 20), (u32::MAX, 1 << 20), (1, 4_096)] {
        let (out, filled, _) = pass(&tune(proposed), usize::MAX);
        assert_eq!((out, filled), (tune(agreed), Ok(())), "{proposed}");
    }
    for kind in [METHOD, BODY] {
        let endless = [kind, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(pass(&endless, 1).1, Err(Violation::Size(_))), "{kind}");
    }
}

#[test]
fn what_no_publisher_can_cause_is_an_error() {
    let mut unmarked = delivery(b"", b"");
    *unmarked.last_mut().unwrap() = 0;
    assert_eq!(pass(&unmarked, usize::MAX).1, Err(Violation::End));
    assert_eq!(pass(&frame(4, b""), usize::MAX).1, Err(Violation::Type(4)));
    assert_eq!(pass(&frame(HEADER, b"\0\x3c\0\0"), usize::MAX).1, Err(Violation::Header));
    // A broker that speaks another version sends only its protocol header.
    assert_eq!(pass(b"AMQP\0\0\x09\x01", 3).0, b"AMQP\0\0\x09\x01");
}
