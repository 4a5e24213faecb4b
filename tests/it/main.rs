//! The promises of DESIGN.md on a real RabbitMQ, a real worker process and real sockets. One binary, one shared broker.

mod broker;
mod crashes; // the broker is restarted under an idle and under a busy worker
mod deliveries; // what a receiver gets: bytes, headers, signature, one POST per attempt
mod docs; // the documents say what is, and nothing else
mod harness; // a world per test: vhost, store, workers, receivers
mod node; // private RabbitMQ nodes
mod rejected; // what is no usable event rests on the rejected queue, and the rest flows on
mod reload; // the store changes under load
mod retries;
mod settings; // the schedule on the wire, for every kind of failing receiver
mod stopping; // SIGTERM, replicas, crashes
mod topology; // the exchange and the queues: declared, verified, explained, compared
