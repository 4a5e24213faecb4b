//! Suspects: messages that were redelivered so often that they may be killing workers.
//!
//! In short: a child process works on a message that was redelivered 8 times, so that it cannot harm the worker again.
//! If a child dies, each message that was in it is worked on again, alone. After three deaths of children that were
//! alone with it, a job goes to the failed queue (`crash_loop`), and an event to the rejected queue.
//!
//! | rule | prevents |
//! |---|---|
//! | redeliveries alone fail nothing | a storm of kills, which charges all messages that workers hold, fails healthy ones |
//! | only the death of a child with one message in it counts | a message that kills takes down those that share its child |
//! | a kill from outside does not count | an operator, or a kernel without memory, kills a child with a healthy message in it |
//! | a death counts only if the worker lives a second longer | a kill of all processes of a machine counts against the message |
//! | one child for all at first | a thousand suspects after a storm cost a thousand processes |
//! | counts travel with the message | a message that kills starts again at 0 when it is put back |
//! | a message is published again before the broker gives up on it | the broker's limit ends healthy messages in a long storm |

pub mod child;
pub mod child_process;
pub mod children;
pub(crate) mod suspect;

use std::time::Duration;

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tracing::{debug, warn};

use self::{
    child::{Message, Work},
    child_process::Died,
    children::Seat,
    suspect::Suspect,
};
use super::{
    context::Context,
    deliver::deliver,
    dispatch::dispatch,
    message::Input,
    reject,
    report::{delivery_log, readable_id},
    settle::{machine::Recorded, record::record},
};
use crate::{
    broker::{Intake, publisher::Outgoing},
    delivery::reason::FailReason,
    job::{header, upstream},
    rejection::{RejectReason, Rejection},
};

/// Redeliveries from which a child process works on a message.
pub(crate) const SUSPECT: u64 = 8;

/// Deaths of children that were alone with a message, after which Leadhook gives the message up.
const MOST_DEATHS: u64 = 3;

/// Redeliveries on the broker's count from which a message is published again, half of `x-delivery-limit`. The limit
/// itself is for messages that kill a worker before it can look at them. All others are published again long before.
const RENEW_FROM: u64 = 50;

/// How long a suspect waits in the process for a child of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the worker must outlive the child for the death to count.
const SURVIVED: Duration = Duration::from_secs(1);

/// Returns whether a child process must work on a message. A message with repaired properties is rejected unread, and
/// must not be published again as if the properties were upstream's.
pub(crate) fn is_suspect(input: &Input) -> bool {
    input.repairs.is_empty() && (input.redeliveries() >= SUSPECT || input.deaths() > 0)
}

/// Returns whether a message must be published again before anything else, by [`renew`].
pub(crate) fn is_due_for_renewal(input: &Input) -> bool {
    input.repairs.is_empty() && input.delivery_count() >= RENEW_FROM
}

/// Settles a suspect. A job holds a slot only while it is worked on, because the start of a child may take long.
pub(crate) async fn settle(context: &Context, input: Box<Input>, intake: Intake) {
    let _counted = context.metrics.suspect();
    if input.deaths() == 0 {
        let Ok(child) = context.children.shared(&context.store).await else {
            return put_back(context, &input, intake, None).await;
        };
        if work(context, &input, intake, child).await.is_ok() {
            return;
        }
    }
    let Some(place) = context.children.place(PATIENCE).await else {
        return put_back(context, &input, intake, None).await;
    };
    let Ok(child) = context.children.alone(&context.store).await else {
        return put_back(context, &input, intake, None).await;
    };
    if let Err(died) = work(context, &input, intake, child).await {
        drop(place);
        match died.by_message {
            true => charge(context, &input, intake, &died).await,
            false => put_back(context, &input, intake, None).await,
        }
    }
}

/// Works on a suspect with this child. An error means that the child has died, and the message is not settled.
async fn work(context: &Context, input: &Input, intake: Intake, child: Seat) -> Result<(), Died> {
    let _slot = match intake {
        Intake::Jobs => context.slots.job().await,
        Intake::Events => None,
    };
    // Waiting took time, so the gate and the channel are checked again.
    context.gate().opened().await;
    if !input.receipt.is_good() {
        return Ok(());
    }
    let id = input.properties.message_id().as_ref().and_then(readable_id).unwrap_or("unnamed");
    let message = Message::new(&input.properties, input.body.clone());
    let suspect = Suspect { child, message, id: id.to_owned() };
    let rehearsed = match intake {
        Intake::Events => Work::Event,
        Intake::Jobs => Work::Job,
    };
    suspect.child.rehearse(rehearsed, &suspect.message, &suspect.id).await?;
    let input = Box::new(input.clone());
    match intake {
        Intake::Events => {
            // The child is no longer needed.
            drop(suspect);
            dispatch(context, input).await;
            Ok(())
        }
        Intake::Jobs => deliver(context, input, Some(&suspect)).await,
    }
}

/// Counts the death of a child that was alone with the message, if the worker lives on.
async fn charge(context: &Context, input: &Input, intake: Intake, died: &Died) {
    tokio::time::sleep(SURVIVED).await;
    let deaths = input.deaths().saturating_add(1);
    match deaths < MOST_DEATHS {
        true => put_back(context, input, intake, Some(deaths)).await,
        false => give_up(context, input, intake, &died.how).await,
    }
}

async fn give_up(context: &Context, input: &Input, intake: Intake, how: &str) {
    let (names, now) = (context.plan.names(), Timestamp::now());
    let detail =
        format!("{MOST_DEATHS} child processes died while they worked on this message alone; the last one: {how}");
    match intake {
        Intake::Events => {
            let rejection = Rejection::new(RejectReason::CrashLoop, detail);
            let message = reject::message(&names.rejected, &names.events, input, &rejection, now);
            if record(context, &input.receipt, || message.clone()).await == Recorded::Yes && input.receipt.ack() {
                context.reports.event_rejected(input, &rejection);
                delivery_log::rejected(context, None, rejection.reason);
                context.metrics.event_rejected(rejection.reason.label());
            }
        }
        Intake::Jobs => {
            let text = |value: &str| AMQPValue::LongString(value.into());
            let more = [
                (header::DEATHS, AMQPValue::LongLongInt(i64::try_from(MOST_DEATHS).unwrap_or_default())),
                (header::REASON, text(FailReason::CrashLoop.label())),
                (header::DETAIL, text(&detail)),
                (header::FAILED_AT, AMQPValue::LongLongInt(now.as_millisecond())),
            ];
            let message = copy(input, &names.failed, more);
            if record(context, &input.receipt, || message.clone()).await == Recorded::Yes && input.receipt.ack() {
                let id = input.properties.message_id().as_ref().and_then(readable_id);
                warn!(webhook_id = id, reason = FailReason::CrashLoop.label(), detail, "delivery failed");
                context.reports.failed();
                delivery_log::crashed(context, input);
                context.metrics.job_failed(FailReason::CrashLoop.label());
            }
        }
    }
}

/// Publishes the message again before the broker gives up on it.
pub(crate) async fn renew(context: &Context, input: Box<Input>, intake: Intake) {
    debug!(redeliveries = input.redeliveries(), "republishing a message that was redelivered often");
    again(context, &input, intake, input.deaths(), Duration::ZERO).await;
}

/// Puts the message back for later. `deaths` is the new count of dead children, if it has changed.
async fn put_back(context: &Context, input: &Input, intake: Intake, deaths: Option<u64>) {
    let wait = pause();
    if intake == Intake::Events {
        // There are no delay queues for events.
        tokio::time::sleep(wait).await;
    }
    again(context, input, intake, deaths.unwrap_or_else(|| input.deaths()), wait).await;
}

/// Returns how long a suspect waits before it is worked on again.
pub(crate) fn pause() -> Duration {
    Duration::from_secs(1).mul_f64(1.0 + 2.0 * fastrand::f64())
}

/// Publishes the message as it is, with its counts, and acks this copy of it.
async fn again(context: &Context, input: &Input, intake: Intake, deaths: u64, wait: Duration) {
    let names = context.plan.names();
    let queue = match intake {
        Intake::Events => names.events.clone(),
        Intake::Jobs => names.delay(context.ladder.hop(wait).delay),
    };
    let count = |count: u64| AMQPValue::LongLongInt(i64::try_from(count).unwrap_or(i64::MAX));
    let mut more = vec![(header::REDELIVERIES, count(input.redeliveries())), (header::DEATHS, count(deaths))];
    if intake == Intake::Events {
        // A later rejection reports them.
        let (exchange, routing_key) = input.origin();
        let text = |value: &str| AMQPValue::LongString(value.into());
        more.extend([(header::EXCHANGE, text(exchange)), (header::ROUTING_KEY, text(routing_key))]);
    }
    let message = copy(input, &queue, more);
    if record(context, &input.receipt, || message.clone()).await == Recorded::Yes
        && input.receipt.ack()
        && intake == Intake::Jobs
    {
        context.metrics.job_deferred("suspect");
    }
}

/// Returns the message as it came, for one of Leadhook's queues: not decoded, and without properties that a broker acts
/// upon. A copy of a job keeps its id, so that the memory knows it.
fn copy(input: &Input, queue: &ShortString, more: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> Outgoing {
    let mut headers = upstream::inert_headers(&input.properties);
    headers.extend(more.into_iter().map(|(name, value)| (name.into(), value)));
    Outgoing {
        exchange: ShortString::default(),
        routing_key: queue.clone(),
        properties: upstream::inert(&input.properties).with_headers(FieldTable::from(headers)),
        body: input.body.clone(),
    }
}
