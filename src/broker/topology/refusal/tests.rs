//! Refusals of RabbitMQ 3.10.8, 4.0.5 and 4.3.6, word for word.

use super::*;
use crate::broker::topology::{Plan, plan::tests::default_plan};

enum Asked {
    Look(&'static str),
    Declare(&'static str),
    Create,
    Bind,
}

use Asked::{Bind, Create, Declare, Look};

impl Asked {
    fn task<'a>(&self, plan: &'a Plan) -> Task<'a> {
        match self {
            Look("lead.events") => Task::Look(Thing::Exchange("lead.events".into())),
            Look(name) => Task::Look(Thing::Queue((*name).into())),
            Declare(name) => Task::Declare(plan.queue(name).unwrap()),
            Create => Task::Create(plan.exchange()),
            Bind => Task::Bind { queue: &plan.names().events, exchange: plan.exchange(), key: &plan.routing_keys()[0] },
        }
    }
}

/// The request, the reply code, the broker's text, the beginning of our text, and whether waiting does not help.
type Row = (Asked, u16, &'static str, &'static str, bool);

const JOBS: &str = "leadhook.jobs";

const ROWS: &[Row] = &[
    // Another value. All three versions say the same.
    (
        Declare(JOBS),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'leadhook.jobs' in vhost '/': received '100' but current is '20'",
        "queue leadhook.jobs stands with other arguments: x-delivery-limit is 20 there, must be 100 here",
        true,
    ),
    // Not set there.
    (
        Declare(JOBS),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'leadhook.jobs' in vhost '/': received the value '' of type 'longstr' but current is none",
        "queue leadhook.jobs stands with other arguments: x-dead-letter-exchange is not set there, must be \"\" here",
        true,
    ),
    // Not wanted here.
    (
        Declare("leadhook.delay.1000"),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'leadhook.delay.1000' in vhost '/': received none but current is the value '20' of type 'long'",
        "queue leadhook.delay.1000 stands with other arguments: x-max-length is 20 there, must not be set here",
        true,
    ),
    // A classic queue: on 3.10, and from 4.0 on.
    (
        Declare("leadhook.failed"),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'leadhook.failed' in vhost '/': received the value 'quorum' of type 'longstr' but current is none",
        "queue leadhook.failed stands with other arguments: x-queue-type is not set there, must be quorum here",
        true,
    ),
    (
        Declare("leadhook.failed"),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'leadhook.failed' in vhost '/': received 'quorum' but current is 'classic'",
        "queue leadhook.failed stands with other arguments: x-queue-type is classic there, must be quorum here",
        true,
    ),
    (
        Declare(JOBS),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'leadhook.jobs' in vhost '/': received 'true' but current is 'false'",
        "queue leadhook.jobs stands with other arguments: durable is false there, must be true here",
        true,
    ),
    // Cut off at 255 bytes.
    (
        Declare(JOBS),
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'leadhook.jobs' in vhost 'a very long na",
        "queue leadhook.jobs stands with other arguments: x-delivery-limit is something else there, must be 100 here",
        true,
    ),
    (
        Create,
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'lead.events' in vhost '/': received 'topic' but current is 'direct'",
        "exchange lead.events stands with other properties: type is direct there, must be topic here",
        true,
    ),
    (
        Create,
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'lead.events' in vhost '/': received 'true' but current is 'false'",
        "exchange lead.events stands with other properties: durable is false there, must be true here",
        true,
    ),
    (
        Declare(JOBS),
        406,
        "PRECONDITION_FAILED - cannot declare queue 'leadhook.jobs' in vhost '/': queue limit in vhost '/' (1) is reached",
        "cannot declare queue leadhook.jobs: the broker said 406 PRECONDITION_FAILED - cannot declare queue 'leadhook.jobs' in vhost '/': queue limit in vhost '/' (1) is reached",
        true,
    ),
    // Permissions. 3.10 does not name the permission, 4.x does.
    (
        Declare("leadhook.failed"),
        403,
        "ACCESS_REFUSED - access to queue 'leadhook.failed' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs configure on queue leadhook.failed",
        true,
    ),
    (
        Declare(JOBS),
        403,
        "ACCESS_REFUSED - access to queue 'leadhook.jobs' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs configure and read on queue leadhook.jobs",
        true,
    ),
    (
        Declare(JOBS),
        403,
        "ACCESS_REFUSED - read access to queue 'leadhook.jobs' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs read on queue leadhook.jobs",
        true,
    ),
    (
        Declare(JOBS),
        403,
        "ACCESS_REFUSED - access to exchange 'amq.default' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs write on exchange amq.default (for dead letters)",
        true,
    ),
    (
        Create,
        403,
        "ACCESS_REFUSED - configure access to exchange 'lead.events' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs configure on exchange lead.events",
        true,
    ),
    (
        Bind,
        403,
        "ACCESS_REFUSED - access to queue 'leadhook.events' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs write on queue leadhook.events",
        true,
    ),
    (
        Bind,
        403,
        "ACCESS_REFUSED - access to exchange 'lead.events' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs read on exchange lead.events (to bind to it)",
        true,
    ),
    // From 4.3 on. It names the permission that was checked last.
    (
        Look(JOBS),
        403,
        "ACCESS_REFUSED - configure access to queue 'leadhook.jobs' in vhost 'v' refused for user 'w'",
        "the user may not do this, it needs read (or any other permission) on queue leadhook.jobs",
        true,
    ),
    (
        Create,
        403,
        "ACCESS_REFUSED - exchange name 'amq.leads' in vhost '/' contains reserved prefix 'amq.*'",
        "cannot declare exchange lead.events: the broker said 403 ACCESS_REFUSED - exchange name 'amq.leads' in vhost '/' contains reserved prefix 'amq.*'",
        true,
    ),
    (Look(JOBS), 404, "NOT_FOUND - no queue 'leadhook.jobs' in vhost '/'", "missing: queue leadhook.jobs", true),
    (
        Look("lead.events"),
        404,
        "NOT_FOUND - no exchange 'lead.events' in vhost '/'",
        "missing: exchange lead.events",
        true,
    ),
    // Its node is down: the queue exists, and comes back.
    (
        Look(JOBS),
        404,
        "NOT_FOUND - home node 'rabbit@a' of durable queue 'leadhook.jobs' in vhost '/' is down or inaccessible",
        "cannot look at queue leadhook.jobs: the broker said 404 NOT_FOUND - home node",
        false,
    ),
    (
        Look(JOBS),
        405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'leadhook.jobs' in vhost '/'",
        "queue leadhook.jobs belongs to another connection alone",
        false,
    ),
    (
        Bind,
        541,
        "INTERNAL_ERROR",
        "cannot bind queue leadhook.events to exchange lead.events with key lead.*: the broker said 541 INTERNAL_ERROR",
        false,
    ),
];

#[test]
fn refusals_are_explained() {
    let plan = default_plan();
    for (asked, code, said, expected, is_final) in ROWS {
        let refused = Refused { code: *code, text: (*said).to_owned() };
        let problem = refused.explain(&asked.task(&plan));
        let error = TopologyError::unless_none(vec![problem], &plan).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(expected), "{said}\n became {text}\n instead of {expected}");
        assert!(text.contains("missing: ") || text.contains(said), "quoted: {text}");
        assert_eq!(error.is_final(), *is_final, "{said}");
    }
}

#[test]
fn each_kind_of_problem_comes_with_its_advice_once() {
    let plan = default_plan();
    let explain = |task: Task<'_>, code, text: &str| Refused { code, text: text.to_owned() }.explain(&task);
    let differs = "inequivalent arg 'x-overflow' for queue 'q' in vhost '/': received 'a' but current is 'b'";
    let mut problems: Vec<_> =
        plan.queues().iter().take(9).map(|queue| explain(Task::Declare(queue), 406, differs)).collect();
    problems.push(explain(Task::Create(plan.exchange()), 403, "configure access to exchange 'x' in vhost '/' refused"));
    let TopologyError::Problems { problems, advice } = TopologyError::unless_none(problems, &plan).unwrap_err() else {
        panic!("problems");
    };
    assert_eq!(advice.len(), 2, "{advice:?}");
    assert!(advice[0].contains("delete the queue once it is empty"), "{advice:?}");
    for permission in
        [r"configure '^leadhook\.'", r"write '^(leadhook\.|amq\.default$)'", r"read '^(leadhook\.|lead\.events$)'"]
    {
        assert!(advice[1].contains(permission), "{permission} in {advice:?}");
    }
    let told = TopologyError::Problems { problems, advice }.to_string();
    assert!(told.contains("; and 5 more of this kind. "), "{told}");
    assert_eq!(told.matches("delete the queue").count(), 1, "{told}");
}

#[test]
fn all_that_is_missing_is_named() {
    let plan = default_plan();
    let missing =
        plan.queues().iter().map(|queue| Problem::Missing { thing: Thing::Queue(queue.name.clone()) }).collect();
    let told = TopologyError::unless_none(missing, &plan).unwrap_err().to_string();
    for queue in plan.queues() {
        assert!(told.contains(&format!("queue {}", queue.name)), "{} in {told}", queue.name);
    }
    assert!(told.contains("leadhook topology apply"), "{told}");
}
