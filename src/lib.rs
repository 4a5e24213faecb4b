//! Leadhook delivers lead events to webhooks, and keeps all state that must survive in RabbitMQ.
//!
//! ```text
//!  events queue --> worker::dispatch --> jobs queue --> worker::deliver --> POST
//!                      |    store::resolve                  |   delivery::* decides
//!                      v                                    v
//!                  rejected queue            delay ladder (back to jobs) or failed queue
//! ```
//!
//! Modules in reading order:
//!
//! - [`event`] decodes an event, and [`store`] finds its targets.
//! - [`job`] is one event on its way to one target.
//! - [`delivery`] makes the decisions (schedule, ladder, outcome, signature), without I/O.
//! - [`egress`] decides where a webhook may go.
//! - [`sender`] makes exactly one POST.
//! - [`broker`] talks AMQP.
//! - [`delivery_log`] keeps the history of deliveries for support.
//! - [`worker`] joins them under the settling rules.
//! - [`dead_letters`] handles failed jobs and rejected messages.
//! - [`console`] shows all this in a browser.
//! - [`receiver`] is the local test receiver.
//! - [`failpoint`] lets tests interrupt all this.
//! - [`cli`] is the composition root.

pub mod rejection;

pub mod event;

pub mod store;

pub mod job;

pub mod delivery;

pub mod limits;

pub mod egress;

pub mod sender;

pub mod broker;

pub mod delivery_log;

pub mod worker;

pub mod dead_letters;

pub mod receiver;

pub mod health;

pub mod admin;

pub mod http_server;

pub mod console;

pub mod metrics;

pub mod settings;

pub mod duration;

pub mod logging;

pub mod os_error;

pub mod failpoint;

pub mod cli;

pub mod reference;
