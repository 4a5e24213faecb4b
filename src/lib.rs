//! Leadhook delivers lead events to webhooks, and keeps everything it has to remember in RabbitMQ.
//!
//! ```text
//!  events queue --> worker::dispatch --> jobs queue --> worker::deliver --> POST
//!                      |    store::resolve                  |   delivery::* decides
//!                      v                                    v
//!                  rejected queue            delay ladder (back to jobs) or failed queue
//! ```
//!
//! Reading order: [`event`] and [`store`] say what is to be delivered where; [`job`] is one event on its way to one
//! target; [`delivery`] holds the decisions (schedule, ladder, outcome, signature) and touches nothing; [`egress`] says
//! where a webhook may go; [`poster`] makes exactly one POST; [`broker`] talks AMQP; [`delivery_log`] keeps what
//! happened, for support; [`worker`] joins them under the settling rules; [`desk`] looks at failed jobs; [`console`]
//! shows all that in a browser; [`receiver`] is the local test receiver; [`failpoint`] lets tests break all that;
//! [`cli`] is the composition root.

pub mod rejection;

pub mod event;

pub mod store;

pub mod job;

pub mod delivery;

pub mod limits;

pub mod egress;

pub mod poster;

pub mod broker;

pub mod delivery_log;

pub mod worker;

pub mod desk;

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
