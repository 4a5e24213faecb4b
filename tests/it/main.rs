//! The promises of the documents on a real RabbitMQ, a real worker process and real sockets. One binary, one shared broker.

mod admin; // the admin port in front of a thousand clients, and its warnings
mod amqps; // the broker over TLS
mod broker; // the broker is restarted, blocked, full, or lacks a queue
mod console; // the web console, page by page and action by action
mod crashes; // messages that kill their process: child processes, and what counts against a message
mod deliveries; // what a receiver gets: bytes, headers, signature, one POST per attempt
mod delivery_log; // what happened to each delivery is kept, told, and loses nobody's time
mod desk; // looking at failed jobs changes nothing, putting them back loses nothing
mod direct; // attempts straight from an event, and what takes the long way
mod docs; // the documents say what is, and nothing else
mod egress; // where webhooks may go
mod event_forms; // what upstream systems write that many readers refuse
mod files; // files that this machine does not have
mod frames; // frames that no broker should send, at a worker
mod hostile; // receivers that mean harm
mod limits; // bad targets cost their neighbours nothing, and no target gets more than it can take
mod logging; // what the worker says in its log, and how often
mod marked; // secrets and lead data in everything that comes out
mod messages; // bad input, invocation by invocation
mod oauth; // receivers that want a token
mod outcome_rules; // what an answer means is the target's to say
mod poison; // properties and headers that lapin cannot read
mod preflight; // which broker it is
mod rejected; // what is no usable event rests on the rejected queue, and the rest flows on
mod reload; // the store changes under load
mod retries; // the schedule on the wire, for every kind of failing receiver
mod rotation; // credentials change under a running process
mod samples; // the stores, settings and events that newcomers start from
mod sessions; // which broker a worker consumes from, and what makes it leave
mod settings; // settings that show only in a running worker
mod stopping; // SIGTERM, replicas, crashes
mod topology; // the exchange and the queues: declared, verified, explained, compared
mod workers; // how many workers there are

/// Worlds, nodes, workers: what the tests stand on.
#[path = "../rig/mod.rs"]
mod rig;
use rig::{harness, node};
