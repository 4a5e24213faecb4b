use serde_json::json;

use super::*;
use crate::broker::topology::{Problem, plan::tests::default_plan};

/// Returns a look that finds everything.
fn sight(plan: &Plan) -> Sight {
    let stands = |ready| Existence::Stands(Count { ready, consumers: 0 });
    let queues = plan.queues().iter().map(|queue| (queue.name.to_string(), stands(7))).collect();
    Sight { exchange: stands(0), queues }
}

/// Returns the management API's answer for a topology as planned.
fn seen(plan: &Plan) -> Value {
    let queue = |queue: &Queue| {
        let value = |argument: Argument<'_>| match argument {
            Argument::Text(text) => json!(text),
            Argument::Seconds(_) => json!(argument.to_string()),
            Argument::Number(number) => json!(number),
        };
        let arguments: serde_json::Map<_, _> =
            queue.arguments().into_iter().map(|(key, argument)| (key.to_owned(), value(argument))).collect();
        json!({
            "name": queue.name.as_str(), "type": "quorum", "durable": true, "arguments": arguments,
            "policy": null, "operator_policy": null, "effective_policy_definition": {}, "messages_ready": 3,
        })
    };
    json!({
        "exchange": { "type": "topic", "durable": true },
        "queues": plan.queues().iter().map(queue).collect::<Vec<_>>(),
        "bindings": [
            { "source": "", "routing_key": "leadhook.events" },
            { "source": "lead.events", "routing_key": "lead.*" },
        ],
    })
}

fn read(seen: &Value) -> Seen {
    let part = |name: &str| seen[name].clone();
    Seen {
        exchange: serde_json::from_value(part("exchange")).unwrap(),
        queues: serde_json::from_value(part("queues")).unwrap(),
        bindings: serde_json::from_value(part("bindings")).unwrap(),
    }
}

/// Compares after a change to one queue in the management API's answer, and returns the row of that queue.
fn with(name: &str, declares: bool, change: impl FnOnce(&mut Value)) -> Row {
    let plan = default_plan();
    let mut seen = seen(&plan);
    let queues = seen["queues"].as_array_mut().unwrap();
    change(queues.iter_mut().find(|queue| queue["name"] == name).unwrap());
    let comparison = compare(&plan, &sight(&plan), Some(&read(&seen)), declares);
    let others = comparison.rows.iter().filter(|row| row.name != name);
    assert!(others.clone().all(|row| row.state == State::Ok), "{:?}", others.collect::<Vec<_>>());
    comparison.rows.into_iter().find(|row| row.name == name).unwrap()
}

#[test]
fn what_stands_as_planned_is_ok() {
    let plan = default_plan();
    let comparison = compare(&plan, &sight(&plan), Some(&read(&seen(&plan))), true);
    assert_eq!((comparison.findings(), comparison.unseen.len(), comparison.superfluous.len()), (0, 0, 0));
    assert!(comparison.rows.iter().all(|row| row.state == State::Ok), "{comparison:?}");
    let names: Vec<_> = comparison.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[..4], ["lead.events", "lead.events lead.*", "leadhook.events", "leadhook.jobs"]);
    assert_eq!(names[names.len() - 2..], ["leadhook.unreadable", "leadhook.workers"]);
    assert_eq!(comparison.rows[2].ready, Some(7), "the count from AMQP is newer");
}

#[test]
fn each_argument_is_compared() {
    let plan = default_plan();
    for queue in plan.queues().iter().filter(|queue| !matches!(queue.role, Role::Delay(_))).chain(&plan.queues()[4..5])
    {
        for (key, _) in queue.arguments() {
            let name = queue.name.as_str();
            let other = with(name, true, |queue| queue["arguments"][key] = json!("other"));
            assert_eq!(other.state, State::Differs);
            assert!(other.details[0].starts_with(&format!("{key} is other there, must be ")), "{other:?}");
            let unset = with(name, true, |queue| {
                queue["arguments"].as_object_mut().unwrap().remove(key);
            });
            assert!(unset.details[0].starts_with(&format!("{key} is not set there, must be ")), "{unset:?}");
        }
    }
}

#[test]
fn what_is_not_planned_is_told() {
    let extra = with("leadhook.jobs", true, |queue| queue["arguments"]["x-max-length"] = json!(5));
    assert_eq!(extra.details, ["x-max-length is 5 there, must not be set here"]);
    let classic = with("leadhook.failed", true, |queue| {
        queue["type"] = json!("classic");
        queue["arguments"] = json!([]);
    });
    assert_eq!(classic.details, ["is a classic queue there, must be a quorum queue here"]);
}

#[test]
fn operators_may_place_queues_that_they_declare() {
    let place = |queue: &mut Value| queue["arguments"]["x-quorum-initial-group-size"] = json!(5);
    assert_eq!(with("leadhook.jobs", false, place).state, State::Ok);
    assert_eq!(with("leadhook.jobs", true, place).state, State::Differs);
}

#[test]
fn policies_that_change_what_a_queue_does_are_findings() {
    let policy = |name: &str, key: &str, value: Value| {
        with(name, true, |queue| {
            queue["policy"] = json!("all");
            queue["effective_policy_definition"] = json!({ key: value });
        })
    };
    for (name, key, value) in [
        ("leadhook.jobs", "message-ttl", json!(60_000)),
        ("leadhook.delay.1000", "message-ttl", json!(600)),
        ("leadhook.jobs", "expires", json!(60_000)),
        ("leadhook.workers", "expires", json!(60_000)),
        ("leadhook.failed", "max-length", json!(5)),
        ("leadhook.failed", "max-length-bytes", json!(5)),
        ("leadhook.failed", "delivery-limit", json!(20)),
        ("leadhook.jobs", "delivery-limit", json!(-1)),
        ("leadhook.jobs", "overflow", json!("drop-head")),
        ("leadhook.delay.1000", "overflow", json!("drop-head")),
        ("leadhook.delay.1000", "max-length", json!(5)),
        ("leadhook.failed", "dead-letter-exchange", json!("x")),
        ("leadhook.failed", "dead-letter-routing-key", json!("x")),
    ] {
        let row = policy(name, key, value);
        assert_eq!(row.state, State::Differs, "{key}");
        assert!(row.details[0].starts_with(&format!("policy all sets {key} to ")), "{row:?}");
    }
    for (name, key, value) in [
        ("leadhook.jobs", "ha-mode", json!("all")),
        ("leadhook.jobs", "delivery-limit", json!(100)),
        ("leadhook.jobs", "overflow", json!("reject-publish")),
        // The argument takes precedence.
        ("leadhook.jobs", "dead-letter-strategy", json!("at-most-once")),
        ("leadhook.jobs", "dead-letter-exchange", json!("x")),
        ("leadhook.delay.1000", "dead-letter-routing-key", json!("x")),
        // The lower number counts.
        ("leadhook.delay.1000", "message-ttl", json!(1000)),
        ("leadhook.delay.1000", "delivery-limit", json!(20)),
        // Without a limit on length, it has no effect.
        ("leadhook.failed", "overflow", json!("drop-head")),
        // It holds no messages.
        ("leadhook.workers", "message-ttl", json!(60_000)),
        ("leadhook.workers", "max-length", json!(5)),
    ] {
        assert_eq!(policy(name, key, value).state, State::Ok, "{key}");
    }
    let both = with("leadhook.jobs", true, |queue| {
        queue["policy"] = json!("p");
        queue["operator_policy"] = json!("o");
        queue["effective_policy_definition"] = json!({ "expires": 1 });
    });
    assert!(both.details[0].starts_with("policy p and operator policy o sets expires to 1"), "{both:?}");
}

#[test]
fn queues_with_the_same_fault_share_a_sentence() {
    let plan = default_plan();
    let mut all = seen(&plan);
    for queue in all["queues"].as_array_mut().unwrap() {
        queue["policy"] = json!("all");
        queue["effective_policy_definition"] = json!({ "message-ttl": 60_000, "ha-mode": "all" });
    }
    all["queues"][0]["arguments"]["x-max-length"] = json!(5);
    let queues = read(&all).queues;
    let first = &queues[0].name;
    let faults = faults(&plan, &queues, true);
    let said = |start: &str, end: &str| faults.iter().any(|one| one.starts_with(start) && one.ends_with(end));
    assert_eq!(faults.len(), 4, "{faults:?}");
    let policy = "policy all sets message-ttl to 60000: ";
    assert!(said(&format!("queue {first}: "), "x-max-length is 5 there, must not be set here"), "{faults:?}");
    let deleted = format!("{policy}after that time messages are deleted");
    assert!(said("queues leadhook.failed, leadhook.rejected and 1 more: ", &deleted), "{faults:?}");
    let dead = format!("{policy}after that time messages become dead letters without an attempt");
    assert!(said("queues leadhook.jobs and leadhook.events: ", &dead), "{faults:?}");
    let early = format!(" more: {policy}jobs come back too early, at the shorter time");
    assert!(said("queues leadhook.delay.", &early), "{faults:?}");
    assert!(is_complete(&plan, &queues) && !is_complete(&plan, &queues[1..]));
}

#[test]
fn policies_that_are_not_known_yet_are_said_to_be() {
    let plan = default_plan();
    let mut seen = seen(&plan);
    seen["queues"][0].as_object_mut().unwrap().remove("effective_policy_definition");
    let comparison = compare(&plan, &sight(&plan), Some(&read(&seen)), true);
    assert_eq!(comparison.findings(), 0);
    assert!(comparison.unseen[0].contains("policies apply to 1 of the queues"), "{:?}", comparison.unseen);
}

#[test]
fn the_exchange_and_every_binding_are_compared() {
    let plan = default_plan();
    let rows = |change: fn(&mut Value)| {
        let mut seen = seen(&plan);
        change(&mut seen);
        let comparison = compare(&plan, &sight(&plan), Some(&read(&seen)), true);
        let wrong = comparison.rows.into_iter().filter(|row| row.state != State::Ok);
        wrong.map(|row| format!("{} {}: {}", row.name, row.state.name(), row.details.join("; "))).collect::<Vec<_>>()
    };
    assert_eq!(
        rows(|seen| seen["exchange"]["type"] = json!("direct")),
        ["lead.events differs: type is direct there, must be topic here"]
    );
    assert!(rows(|seen| seen["exchange"]["durable"] = json!(false))[0].contains("not durable"));
    assert!(rows(|seen| seen["exchange"] = json!(null))[0].contains("another broker"));
    assert_eq!(rows(|seen| seen["bindings"] = json!([])), ["lead.events lead.* missing: "]);
    let foreign = rows(|seen| {
        seen["bindings"].as_array_mut().unwrap().push(json!({ "source": "old", "routing_key": "#" }));
    });
    assert!(foreign[0].starts_with("old # differs: is not in the settings"), "{foreign:?}");
}

#[test]
fn without_the_management_api_what_stands_is_not_taken_for_good() {
    let plan = default_plan();
    let mut sight = sight(&plan);
    let comparison = compare(&plan, &sight, None, true);
    assert_eq!(comparison.findings(), 0);
    assert_eq!((comparison.rows[0].state, comparison.rows[1].state), (State::Stands, State::Unseen));
    assert!(comparison.rows[2..].iter().all(|row| row.state == State::Stands));
    for word in ["arguments", "bindings", "policies", "amqp.management_url"] {
        assert!(comparison.unseen[0].contains(word), "{word}");
    }
    let hidden = Problem::Forbidden { permission: "read".to_owned(), said: "no".to_owned() };
    sight.queues.insert("leadhook.jobs".to_owned(), Existence::Hidden(hidden));
    sight.queues.insert("leadhook.events".to_owned(), Existence::Missing);
    let comparison = compare(&plan, &sight, None, true);
    let states: Vec<_> = comparison.rows[..4].iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Stands, State::Missing, State::Missing, State::Unseen], "no queue, no binding");
    assert_eq!(comparison.findings(), 2);
    assert!(comparison.unseen[0].starts_with("1 of the plan could not be looked at"), "{:?}", comparison.unseen);
}

#[test]
fn delay_queues_that_are_left_over_are_listed_but_no_findings() {
    let plan = default_plan();
    let mut seen = seen(&plan);
    let queues = seen["queues"].as_array_mut().unwrap();
    for name in ["leadhook.delay.63", "leadhook.delay.text", "other.delay.63", "leadhook.audit"] {
        queues.push(json!({ "name": name, "type": "quorum", "durable": true, "arguments": {}, "messages_ready": 4 }));
    }
    let comparison = compare(&plan, &sight(&plan), Some(&read(&seen)), true);
    assert_eq!(comparison.superfluous, [Superfluous { name: "leadhook.delay.63".to_owned(), ready: Some(4) }]);
    assert_eq!(comparison.findings(), 0);
}
