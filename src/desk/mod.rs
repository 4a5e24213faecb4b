//! The desk browses, counts, replays, requeues and removes messages of the failed, rejected and unreadable queues.
//!
//! The failed queue is the only record of its jobs, so reading must not change it. Its rules, and what they prevent:
//!
//! * **A visit takes all messages, acks none, and closes its channel** ([`visit`]). When a channel closes, a quorum
//!   queue puts its messages back to the front, in the order in which they were taken. `basic.get`, or a nack of many
//!   at once, shuffles them. (Measured on 3.10: above 32 messages RabbitMQ walks them in hash order, and it walks its
//!   consumers likewise.) So a visit uses one consumer per batch, few batches, and never a nack.
//! * **One visit at a time.** Two visits would share the messages, see half each, and give them back in another order.
//!   The lock is an exclusive queue of the visit's connection; the broker deletes it with the connection.
//! * **A visit ends.** It reads the messages that were there when it began, and reports those that did not come.
//! * **Reading wears messages out.** Each read raises the broker's `x-delivery-count`, and the queue has a delivery
//!   limit. Far below it, Leadhook publishes the message again, and acks the old copy only after the confirm
//!   ([`wear`]).
//! * **A replay publishes, waits for the confirm, and only then acks** ([`replay`]). A worker's crash can fork a job.
//!   Its copies share a `webhook-id` and are replayed as one.
//!
//! [`record`], [`filter`], [`listing`], [`stats`], [`facts`], [`selection`], [`survey`], [`reroute`], [`repair`] and
//! [`ledger`] decide and touch nothing. [`export`] writes files. [`visit`], [`wear`], [`replay`], [`requeue`] and
//! [`remove`] talk to the broker. [`interrupt`] listens to Ctrl-C. Only `cli` and `console` talk to people. Tests:
//! `tests/it/desk/`.

pub mod record;

pub mod filter;

pub mod listing;

pub mod selection;

pub mod survey;

pub mod stats;

pub mod ledger;

pub mod facts;

pub mod export;

pub mod remove;

pub mod reroute;

pub mod repair;

pub mod interrupt;

mod held;

mod turn;

pub mod visit;

pub mod wear;

pub mod replay;

pub mod requeue;
