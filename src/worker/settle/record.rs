//! Puts successors on the broker. The input may be acked only after its successor is confirmed.

use lapin::types::ShortString;
use tracing::{error, info, warn};

use super::machine::Recorded;
use crate::{
    broker::{
        pause::Pause,
        publisher::{Outgoing, PublishError},
    },
    worker::{context::Context, message::Receipt},
};

/// Longest wait for a declare. It blocks the connection that publishing needs for a new channel.
const DECLARING: std::time::Duration = std::time::Duration::from_secs(5);

/// How long the jobs queue stays missing before it is declared again, so that its consumers learn of its end
/// ([`crate::broker::topology::declare_again`]). They learned of it within 10 ms (measured).
const END_IS_HEARD: std::time::Duration = std::time::Duration::from_secs(1);

/// Publishes a successor until the broker confirms it, as long as the input's channel exists.
///
/// Declares a missing queue again if Leadhook owns the topology. Meanwhile nothing is requeued, and the outcome counts
/// as waiting, which eventually closes the intake.
///
/// `make` makes the message again for each try, because few need a second one.
pub async fn record(context: &Context, receipt: &Receipt, make: impl Fn() -> Outgoing) -> Recorded {
    if !receipt.is_good() {
        return Recorded::InputGone;
    }
    // Boxed: the rest is rare and large, and would make the task of every message as large.
    match try_to(context, receipt, Box::new(make())).await {
        Ok(recorded) => recorded,
        Err(error) => Box::pin(record_at_last(context, receipt, make, error)).await,
    }
}

/// Goes on after the first try failed.
async fn record_at_last(
    context: &Context,
    receipt: &Receipt,
    make: impl Fn() -> Outgoing,
    mut error: PublishError,
) -> Recorded {
    let queue = make().routing_key;
    // When one outcome waits, hundreds soon do. Only a few of them are logged.
    let told = context.reports.may_tell_of_queue(queue.as_str());
    if told {
        warn!(%queue, %error, "cannot record an outcome yet, trying again");
    }
    let _waits = context.waiting.enter(queue.as_str());
    let mut pause = Pause::for_recording();
    let mut complained = false;
    loop {
        if let PublishError::Returned { .. } = error
            && context.settings.topology.declare
        {
            if queue == context.plan.names().jobs {
                tokio::time::sleep(END_IS_HEARD).await;
            }
            match redeclare(context, &queue).await {
                Ok(()) if told => warn!(%queue, "a queue was missing and has been declared again"),
                Err(error) if told && !std::mem::replace(&mut complained, true) => {
                    error!(%queue, error, "a queue is missing and cannot be declared");
                }
                Ok(()) | Err(_) => {}
            }
        }
        tokio::time::sleep(pause.next(fastrand::f64())).await;
        if !receipt.is_good() {
            return Recorded::InputGone;
        }
        match try_to(context, receipt, Box::new(make())).await {
            Ok(Recorded::Yes) => {
                if told {
                    info!(%queue, "the outcome is recorded");
                }
                return Recorded::Yes;
            }
            Ok(Recorded::InputGone) => return Recorded::InputGone,
            Err(again) => error = again,
        }
    }
}

async fn try_to(context: &Context, receipt: &Receipt, message: Box<Outgoing>) -> Result<Recorded, PublishError> {
    let input = receipt.clone();
    meaning(context.publisher.publish_if(message, move || input.is_good()).await)
}

/// Returns what the answer to a publish means for its input. An error means *not done*: try again.
pub fn meaning(answer: Result<(), PublishError>) -> Result<Recorded, PublishError> {
    match answer {
        Ok(()) => Ok(Recorded::Yes),
        Err(PublishError::Unwanted) => Ok(Recorded::InputGone),
        Err(error) => Err(error),
    }
}

async fn redeclare(context: &Context, queue: &ShortString) -> Result<(), String> {
    let outcome = async {
        let connection = context.publisher.shared().get().await.map_err(|error| error.to_string())?;
        let declaring = crate::broker::topology::declare_one(&connection, &context.plan, queue);
        declaring.await.map_err(|error| error.to_string())
    };
    tokio::time::timeout(DECLARING, outcome).await.unwrap_or_else(|_| Err("the broker does not answer".to_owned()))
}
