//! Lead events.

use leadhook::event::{Event, EventKind, FIELDS};
use proptest::{
    prelude::*,
    sample::{Index, select},
};

use crate::{
    checks::event::{check, input, rfc3339},
    generate::{edited, json},
};

/// A valid value of a field, as JSON text.
fn good(field: &'static str) -> BoxedStrategy<String> {
    let quoted = |text: String| format!("{text:?}");
    match field {
        "event" => select(&EventKind::ALL[..]).prop_map(move |kind| quoted(kind.name().to_owned())).boxed(),
        "campaignId" => id().prop_map(quoted).boxed(),
        "organizationId" => prop_oneof![2 => "[ab]".boxed(), 1 => id().boxed()].prop_map(quoted).boxed(),
        "timestamp" => prop_oneof![
            6 => time().prop_map(quoted),
            1 => any::<i64>().prop_map(|number| number.to_string()),
            1 => json(),
        ]
        .boxed(),
        "data" => json().prop_map(|value| format!("{{\"lead\":{value}}}")).boxed(),
        _ => prop_oneof![
            6 => "[ -!#-\\[\\]-~]{0,24}".prop_map(quoted),
            1 => any::<i64>().prop_map(|number| number.to_string()),
            1 => select(&[r#""\ud83d""#, r#""\ud83e\udd80""#, "12345678901234567890123"][..]).prop_map(str::to_owned),
        ]
        .boxed(),
    }
}

/// An id, and occasionally something close to one.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[A-Za-z0-9._:-]{1,128}", 1 => "[a-z /#é\n]{0,4}", 1 => "[a]{127,130}"]
}

/// A time that RFC 3339 allows, and occasionally one that it does not.
fn time() -> impl Strategy<Value = String> {
    let digits = |from: u32, to: u32| (from..to).prop_map(|number| format!("{number:02}"));
    let offset = prop_oneof![
        3 => Just("Z".to_owned()),
        1 => Just("z".to_owned()),
        2 => (select(&["+", "-"][..]), digits(0, 27), digits(0, 61))
            .prop_map(|(sign, hours, minutes)| format!("{sign}{hours}:{minutes}")),
        1 => select(&["", "+0100", "+01", " Z", "Z[UTC]", "+01:00:30"][..]).prop_map(str::to_owned),
    ];
    let date =
        (0u32..10_000, digits(0, 14), digits(0, 33)).prop_map(|(year, month, day)| format!("{year:04}-{month}-{day}"));
    let fraction = prop_oneof![3 => Just(String::new()), 2 => "\\.[0-9]{0,12}", 1 => "[,:][0-9]{1,3}"];
    (date, select(&["T", "t", " ", "_", ""][..]), digits(0, 26), digits(0, 62), digits(0, 62), fraction, offset)
        .prop_map(|(date, mark, hour, minute, second, fraction, offset)| {
            format!("{date}{mark}{hour}:{minute}:{second}{fraction}{offset}")
        })
}

/// A body with all fields, in any order, with whitespace, and with a few mistakes.
fn body() -> impl Strategy<Value = String> {
    let members: Vec<_> = FIELDS.iter().map(|field| (Just((*field).to_owned()), good(field))).collect();
    let mistakes = prop::collection::vec((any::<Index>(), 0u8..5, json()), 0..3);
    (members, mistakes, any::<Index>(), select(&["", " ", "\n", "\t\r\n "][..])).prop_map(
        |(mut members, mistakes, turn, blank)| {
            let turn = turn.index(members.len());
            members.rotate_left(turn);
            for (at, mistake, value) in mistakes {
                let at = at.index(members.len());
                match mistake {
                    0 => drop(members.remove(at)),
                    1 => members.insert(at, members[at].clone()),
                    2 => members[at].1 = value,
                    3 => members.insert(at, ("x".to_owned(), value)),
                    _ => members[at].0 = "leadid".to_owned(),
                }
            }
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("\"{key}\"{blank}:{blank}{value}")).collect();
            format!("{blank}{{{}}}{blank}", members.join(&format!("{blank},{blank}")))
        },
    )
}

fn organization() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(0.5, prop_oneof![3 => "[ab]".boxed(), 1 => id().boxed(), 1 => ".{0,6}".boxed()])
}

proptest! {
    #[test]
    fn a_body_is_read_as_a_second_reader_reads_it(body in body(), organization in organization()) {
        let _ = check(body.as_bytes(), organization.as_deref());
    }

    #[test]
    fn bytes_of_any_kind_are_an_event_or_a_rejection(bytes in prop_oneof![
        edited("event"),
        json().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200),
    ]) {
        input(&bytes);
    }

    /// Status and data only have to be present, and neither time nor ids affect routing.
    #[test]
    fn what_a_lead_says_of_itself_plays_no_part(
        lead in good("leadId"), status in json(), data in good("data"), time in good("timestamp"),
    ) {
        let body = |lead: &str, status: &str, data: &str, time: &str| format!(
            r#"{{"event":"lead.queued","leadId":{lead},"submissionId":"s","campaignId":"C","status":{status},
                "timestamp":{time},"data":{data}}}"#
        );
        let fixed = check(body("\"\"", "\"\"", "{}", "0").as_bytes(), None);
        prop_assert!(fixed.is_ok());
        let event = check(body(&lead, &status, &data, &time).as_bytes(), None);
        prop_assert!(event.is_ok(), "{:?}", event);
        let (event, fixed) = (event.unwrap(), fixed.unwrap());
        prop_assert_eq!(Event { lead: fixed.lead.clone(), timestamp: "0".to_owned(), time: fixed.time, ..event }, fixed);
    }

    #[test]
    fn a_rejection_never_quotes_the_lead(
        wrong in select(&["event", "leadId", "submissionId", "campaignId", "data", "organizationId"][..]), value in json(),
    ) {
        const LEAD: &str = "jane.roe@example.com";
        let members = FIELDS.map(|field| match field {
            _ if field == wrong => format!("\"{field}\":[{value:?},\"{LEAD}\"]"),
            "event" => format!("\"{field}\":\"lead.queued\""),
            "timestamp" => format!("\"{field}\":\"2024-06-15T10:30:00Z\""),
            "data" => format!("\"{field}\":{{\"email\":\"{LEAD}\",\"{LEAD}\":1}}"),
            _ => format!("\"{field}\":\"x\""),
        });
        let rejection = check(format!("{{{}}}", members.join(",")).as_bytes(), None).unwrap_err();
        prop_assert!(!rejection.to_string().contains(LEAD), "{}", rejection);
    }

    #[test]
    fn the_second_reader_of_times_agrees_with_the_calendar(
        seconds in -62_135_596_800i64..253_402_207_200, nanos in 0i32..1_000_000_000,
    ) {
        let time = jiff::Timestamp::new(seconds, 0).unwrap() + jiff::SignedDuration::new(0, nanos);
        prop_assert_eq!(rfc3339(&time.to_string()), Some(time.as_nanosecond()));
    }
}
