//! Browses, counts, replays, requeues and removes messages of the failed, rejected and unreadable queues.
//!
//! The failed queue is the only record of its jobs, so reading must not change it. Its rules, and what they prevent:
//!
//! * **A browse takes all messages, acks none, and closes its channel** ([`browse`]). When a channel closes, a quorum
//!   queue puts its messages back to the front, in the order in which they were taken. `basic.get`, or a nack of many
//!   at once, shuffles them. (Measured on 3.10: above 32 messages RabbitMQ walks them in hash order, and it walks its
//!   consumers likewise.) So a browse uses one consumer per batch, few batches, and never a nack.
//! * **One browse at a time.** Two browses would share the messages, see half each, and give them back in another order.
//!   The lock is an exclusive queue of the browse's connection; the broker deletes it with the connection.
//! * **A browse ends.** It reads the messages that were there when it began, and reports those that did not come.
//! * **Each read brings a message closer to the queue's delivery limit**, because it raises the broker's
//!   `x-delivery-count`. Long before the limit, Leadhook publishes the message again, and acks the old copy only after
//!   the confirm ([`renew`]).
//! * **A replay publishes, waits for the confirm, and only then acks** ([`replay`]). A worker's crash can fork a job.
//!   Its copies share a `webhook-id` and are replayed as one.
//!
//! [`record`], [`filter`], [`listing`], [`stats`], [`facts`], [`given_ids`], [`selection`], [`reroute`], [`repair`] and
//! [`ledger`] decide and touch nothing. [`export`] writes files. [`browse`], [`renew`], [`replay`], [`requeue`] and
//! [`remove`] talk to the broker. [`interrupt`] listens to Ctrl-C. Only `cli` and `console` talk to people. Tests:
//! `tests/it/dead_letters/`.

pub mod record;

pub mod filter;

pub mod listing;

pub mod given_ids;

pub mod selection;

pub mod stats;

pub mod ledger;

pub mod facts;

pub mod export;

pub mod remove;

pub mod reroute;

pub mod repair;

pub mod interrupt;

mod held;

mod browse_lock;

pub mod browse;

pub mod browse_error;

pub mod renew;

pub mod replay;

pub mod requeue;
