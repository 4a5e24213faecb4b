//! The failed desk: looking at jobs that could not be delivered, and putting them back.
//!
//! The failed queue is the only record there is, so reading it must not change it. What each rule prevents:
//!
//! * **A visit takes all messages, acks none, and closes its channel** ([`visit`]). On a quorum queue what a closed channel
//!   held goes back to the front in the order it was taken; `basic.get`, or a nack of many at once, shuffles it (measured on
//!   3.10: RabbitMQ walks its messages in hash order above 32 of them, and so it does its consumers). Hence one consumer per
//!   batch, few batches, and never a nack.
//! * **One visitor at a time**: two would share the messages between them, see half each, and give them back in another
//!   order. An exclusive queue of the visit's connection is the lock; the broker drops it with the connection.
//! * **A visit ends**: it reads what was there at its beginning, and says what did not come.
//! * **Looking wears out**: each look raises the broker's `x-delivery-count`, and the queue has a limit. Far below it a
//!   message is published anew, confirmed, and only then its old copy is acked ([`wear`]).
//! * **A replay publishes, waits for the confirm, and only then acks** ([`replay`]); copies of one job (a crash of a worker
//!   can fork it) share a `webhook-id` and are replayed as one.
//!
//! [`record`], [`filter`], [`listing`], [`stats`], [`facts`], [`selection`], [`survey`], [`reroute`], [`repair`] and
//! [`ledger`] decide and touch nothing; [`export`] writes files; [`visit`], [`wear`], [`replay`], [`requeue`] and
//! [`remove`] talk to the broker, [`interrupt`] listens to Ctrl-C, and only `cli::failed` talks to people. Proof:
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
