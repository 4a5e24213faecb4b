//! Strict about presence, lenient about form. JSON that RFC 8259 allows and many readers refuse arrives byte for byte,
//! and so do the time formats of other systems.

use lapin::BasicProperties;
use leadhook::event::Event;

use crate::harness::{PATIENCE, World, event, receiver};

/// The position of a text in an event.
#[derive(Clone, Copy)]
enum Place {
    /// `data` is `{"x": [TEXT]}`.
    Data,
    /// The text is a member of `data`, with its key.
    Member,
    Lead,
    Submission,
    Status,
    /// The text is the whole body.
    Body,
}
use Place::*;

/// The expected result.
#[derive(Clone, Copy, PartialEq)]
enum Becomes {
    /// Delivered; the former strict reader accepted it too.
    Delivered,
    /// Delivered; the former strict reader refused it.
    Now,
    /// Rejected as `not_json`.
    NotJson,
}
use Becomes::*;

/// Corner cases, with the prefixes of JSONTestSuite: `y_` is JSON, `n_` is not, and `i_` depends on the reader.
const CASES: &[(&str, Place, &[u8], Becomes)] = &[
    ("y_object_duplicated_key", Member, br#""a":"b","a":"c""#, Now),
    ("y_object_duplicated_key_and_value", Member, br#""a":"b","a":"b""#, Now),
    ("i_number_huge_exp", Data, b"0.4e00669999999999999999999999999999999999999999999969999999006", Now),
    ("i_number_neg_int_huge_exp", Data, b"-1e+9999", Now),
    ("i_number_pos_double_huge_exp", Data, b"1.5e+9999", Now),
    ("i_number_real_neg_overflow", Data, b"-123123e100000", Now),
    ("i_number_real_pos_overflow", Data, b"123123e100000", Now),
    ("i_object_key_lone_2nd_surrogate", Member, br#""\uDFAA":0"#, Now),
    ("i_string_1st_surrogate_but_2nd_missing", Data, br#""\uDADA""#, Now),
    ("i_string_1st_valid_surrogate_2nd_invalid", Data, br#""\uD888\u1234""#, Now),
    ("i_string_incomplete_surrogate_and_escape_valid", Data, br#""\uD800\n""#, Now),
    ("i_string_incomplete_surrogate_pair", Data, br#""\uDd1ea""#, Now),
    ("i_string_incomplete_surrogates_escape_valid", Data, br#""\uD800\uD800\n""#, Now),
    ("i_string_invalid_lonely_surrogate", Data, br#""\ud800""#, Now),
    ("i_string_invalid_surrogate", Data, br#""\ud800abc""#, Now),
    ("i_string_inverted_surrogates_U+1D11E", Data, br#""\uDd1e\uD834""#, Now),
    ("i_string_lone_second_surrogate", Data, br#""\uDFAA""#, Now),
    ("i_string_lone_second_surrogate", Lead, br#""\uDFAA""#, Now),
    ("i_structure_500_nested_arrays", Data, &nested::<500>(), Now),
    ("y_structure_lonely_int", Submission, b"42", Now),
    ("y_structure_lonely_negative_int", Lead, b"-42", Now),
    ("i_number_too_big_pos_int", Lead, b"100000000000000000000", Now),
    ("y_structure_lonely_null", Status, b"null", Now),
    ("i_number_double_huge_neg_exp", Data, b"123.456e-789", Delivered),
    ("i_number_real_underflow", Data, b"123e-10000000", Delivered),
    ("i_number_too_big_neg_int", Data, b"-123123123123123123123123123123", Delivered),
    ("i_number_very_big_negative_int", Data, b"-237462374673276894279832749832423479823246327846", Delivered),
    ("y_array_arraysWithSpaces", Data, b"[[]   ]", Delivered),
    ("y_number_0e+1", Data, b"0e+1", Delivered),
    ("y_number_negative_zero", Data, b"-0", Delivered),
    ("y_number_real_capital_e_pos_exp", Data, b"1E+2", Delivered),
    ("y_object_empty_key", Member, br#""":0"#, Delivered),
    ("y_object_escaped_null_in_key", Member, br#""foo\u0000bar": 42"#, Delivered),
    ("y_string_accepted_surrogate_pair", Data, br#""\uD801\udc37""#, Delivered),
    ("y_string_allowed_escapes", Data, br#""\"\\\/\b\f\n\r\t""#, Delivered),
    ("y_string_null_escape", Data, br#""\u0000""#, Delivered),
    ("y_string_u+2028_line_sep", Data, "\"\u{2028}\"".as_bytes(), Delivered),
    ("y_string_unescaped_char_delete", Data, b"\"\x7f\"", Delivered),
    ("y_string_nonCharacterInUTF-8_U+10FFFF", Data, "\"\u{10ffff}\"".as_bytes(), Delivered),
    ("i_string_UTF-8_invalid_sequence", Data, b"\"\xe6\x97\xa5\xd1\x88\xfa\"", NotJson),
    ("i_string_UTF8_surrogate_U+D800", Data, b"\"\xed\xa0\x80\"", NotJson),
    ("i_string_iso_latin_1", Data, b"\"\xe9\"", NotJson),
    ("i_string_overlong_sequence_2_bytes", Data, b"\"\xc0\xaf\"", NotJson),
    ("i_string_truncated-utf-8", Data, b"\"\xe0\xff\"", NotJson),
    ("i_string_utf16LE_no_BOM", Body, b"{\0}\0", NotJson),
    ("i_string_UTF-16LE_with_BOM", Body, b"\xff\xfe{\0}\0", NotJson),
    ("i_structure_UTF-8_BOM_empty_object", Body, b"\xef\xbb\xbf{}", NotJson),
    ("n_array_extra_comma", Data, b"1,", NotJson),
    ("n_number_+1", Data, b"+1", NotJson),
    ("n_number_-01", Data, b"-01", NotJson),
    ("n_number_.-1", Data, b".-1", NotJson),
    ("n_number_2.e3", Data, b"2.e3", NotJson),
    ("n_number_NaN", Data, b"NaN", NotJson),
    ("n_number_hex_1_digit", Data, b"0x1", NotJson),
    ("n_number_infinity", Data, b"-Infinity", NotJson),
    ("n_object_single_quote", Member, b"'a':0", NotJson),
    ("n_object_trailing_comma", Member, br#""id":0,"#, NotJson),
    ("n_object_unquoted_key", Member, b"a: \"b\"", NotJson),
    ("n_object_trailing_comment", Member, br#""a":"b"/**/"#, NotJson),
    ("n_string_1_surrogate_then_escape_u", Data, br#""\uD800\u""#, NotJson),
    ("n_string_escape_x", Data, br#""\x00""#, NotJson),
    ("n_string_unescaped_ctrl_char", Data, b"\"a\0a\"", NotJson),
    ("n_string_unescaped_newline", Data, b"\"new\nline\"", NotJson),
    ("n_string_unescaped_tab", Data, b"\"\t\"", NotJson),
    ("n_structure_100000_opening_arrays", Data, &[b'['; 100_000], NotJson),
    ("n_structure_whitespace_formfeed", Data, b"\x0c", NotJson),
    ("n_structure_no_data", Body, b"", NotJson),
    ("n_structure_null-byte-outside-string", Data, b"\0", NotJson),
];

const fn nested<const DEPTH: usize>() -> [u8; 1_000] {
    let mut text = [b'['; 1_000];
    let mut at = DEPTH;
    while at < 2 * DEPTH {
        text[at] = b']';
        at += 1;
    }
    text
}

fn body(place: Place, text: &[u8]) -> Vec<u8> {
    let good = event("ABC", 1);
    let (from, before, after) = match place {
        Data => ("\"firstName\":\"John\"", "\"x\":[", "]"),
        Member => ("\"firstName\":\"John\"", "", ""),
        Lead => ("\"lead_1\"", "", ""),
        Submission => ("\"sub_1\"", "", ""),
        Status => ("\"status\":\"delivered\"", "\"status\":", ""),
        Body => return text.to_vec(),
    };
    let (head, tail) = good.split_once(from).expect("the text to replace");
    [head.as_bytes(), before.as_bytes(), text, after.as_bytes(), tail.as_bytes()].concat()
}

#[test]
fn every_corner_case_of_json_is_an_event_or_is_rejected_as_not_json() {
    for (name, place, text, becomes) in CASES {
        let body = body(*place, text);
        let read = Event::decode(&body, None, 1 << 20).map_err(|rejection| rejection.reason.label());
        match becomes {
            Delivered | Now => assert!(read.is_ok(), "{name}: {read:?}"),
            NotJson => assert_eq!(read.err(), Some("not_json"), "{name}"),
        }
    }
}

#[tokio::test]
async fn events_that_a_strict_reader_refuses_arrive_byte_for_byte() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let cases: Vec<_> = CASES.iter().filter(|(_, _, _, becomes)| *becomes == Now).collect();
    assert!(cases.len() >= 20, "{}", cases.len());
    for (_, place, text, _) in &cases {
        world.publish(&body(*place, text)).await;
    }
    let received = receiver.wait_for(cases.len(), PATIENCE).await.unwrap();
    for (name, place, text, _) in &cases {
        let sent = body(*place, text);
        assert_eq!(received.iter().filter(|one| one.body == sent).count(), 1, "{name}");
    }
    assert_eq!(world.ready("rejected").await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn events_with_the_times_of_other_systems_are_delivered_and_unreadable_ones_counted() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let times = [
        "\"2024-06-15T10:30:00\"",
        "\"2024-06-15T10:30:00+0000\"",
        "\"2024-06-15T10:30Z\"",
        "1718447400",
        "1718447400123",
        "\"15 June, half past ten\"",
        "\"15 June, half past eleven\"",
        "null",
    ];
    let with = |time: &str| event("ABC", 1).replace("\"2024-06-15T10:30:00Z\"", time);
    for time in times {
        world.publish(with(time).as_bytes()).await;
    }
    let received = receiver.wait_for(times.len(), PATIENCE).await.unwrap();
    for time in times {
        assert_eq!(received.iter().filter(|one| one.body == with(time).as_bytes()).count(), 1, "{time}");
    }
    worker.metric_is("leadhook_events_irregular_total", "field=\"timestamp\"", 3.0).await;
    // Times that cannot be read have no lag to measure.
    worker.metric_is("leadhook_event_lag_seconds_count", "", 5.0).await;
    let log = worker.log();
    assert_eq!(log.matches("cannot be read").count(), 1, "once a minute: {log}");
    assert!(!log.contains("half past"), "{log}");
    worker.stop().await;
}

/// Upstream systems publish an event again with other whitespace, and use one id for several events of a submission.
#[tokio::test]
async fn a_message_id_keeps_the_webhook_id_of_an_event_and_merges_no_two() {
    let world = World::new().await;
    let receiver = receiver("200").await;
    world.simple_store(&receiver.url(), "");
    let worker = world.worker(&[]).await;
    let tight = event("ABC", 1);
    let spaced = tight.replace("\":", "\" :\n");
    let sent: [(&str, Option<&str>); 6] = [
        (&tight, Some("sub_1")),
        (&spaced, Some("sub_1")),
        (&tight.replace("lead.delivered\"", "lead.failed\""), Some("sub_1")),
        (&tight.replace("10:30:00Z", "10:30:01Z"), Some("sub_1")),
        (&tight, None),
        (&spaced, None),
    ];
    let mut ids = Vec::new();
    for (body, id) in sent {
        let properties = BasicProperties::default();
        let properties = id.map_or(properties.clone(), |id| properties.with_message_id(id.into()));
        world.publish_with(body.as_bytes(), properties).await;
        let received = receiver.wait_for(ids.len() + 1, PATIENCE).await.unwrap();
        ids.push(received[ids.len()].webhook_id().unwrap().to_owned());
    }
    assert_eq!(ids[0], ids[1], "other whitespace changed the id");
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 5, "{ids:?}");
    worker.stop().await;
}
