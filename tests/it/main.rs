//! Tests the promises of the documents on a real RabbitMQ, with real worker processes and real sockets. One binary, one
//! shared broker.

mod admin; // the admin port in front of a thousand clients, and its warnings
mod amqps; // the broker over TLS
mod broker; // the broker is restarted, blocked, full, or lacks a queue
mod console; // the web console, page by page and action by action
mod crashes; // messages that kill their process: child processes, and the deaths that count
mod dead_letters; // looking at failed jobs changes nothing, and replaying them loses nothing
mod deliveries; // the request that a receiver gets: bytes, headers, signature, one POST per attempt
mod delivery_log; // the history of each delivery is kept and reported, and delays none
mod direct; // direct attempts, and events that become jobs first
mod docs; // the documents are true and complete
mod egress; // where webhooks may go
mod event_forms; // forms that upstream systems write and many readers refuse
mod files; // a lack of open files
mod frames; // frames that no broker should send
mod hostile; // hostile receivers
mod limits; // bad targets cost their neighbours nothing, and no target gets more than it can handle
mod logging; // the lines of the worker's log, and their number
mod marked; // no secrets and no lead data in any output
mod messages; // bad input, invocation by invocation
mod oauth; // receivers that require a token
mod outcome_rules; // targets that define the meaning of an answer
mod poison; // properties and headers that lapin cannot read
mod preflight; // unsupported and faulty brokers
mod rejected; // unusable messages go to the rejected queue, and others continue
mod reload; // the store changes under load
mod retries; // the schedule on the wire, for every kind of failing receiver
mod rotation; // credentials that change while a process runs
mod samples; // the stores, settings and events that newcomers start from
mod sessions; // the broker that a worker consumes from, and reasons to leave it
mod settings; // settings whose effect shows only in a running worker
mod stopping; // SIGTERM, replicas, crashes
mod topology; // the exchange and the queues: declared, verified, explained, compared
mod workers; // how many workers there are

/// The rig: worlds, nodes and workers.
#[path = "../rig/mod.rs"]
mod rig;
use rig::{harness, node};
