//! Putting successors on the broker and only then letting go of the input: rules 1, 2, 5 and 7 in one place.

use lapin::types::ShortString;
use tracing::{info, warn};

use super::{Context, input::Receipt};
use crate::{
    broker::{
        pause::Pause,
        publisher::{Outgoing, PublishError},
    },
    worker::gate::Waits,
};

/// Longest wait for a declare. It holds the one connection that publishing needs for a fresh channel.
const DECLARING: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether a successor is on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Confirmed: the input may be acked.
    Yes,
    /// The channel that delivered the input is gone: nobody may rely on it, and the input comes again.
    InputGone,
}

/// Publishes a successor until the broker confirms it, for as long as the input's channel lives.
///
/// A missing queue of ours is declared anew where the topology is ours to declare. Nothing is requeued meanwhile, and
/// while it lasts this outcome counts as waiting, which in the end closes the intake.
pub async fn record(context: &Context, receipt: &Receipt, message: Outgoing) -> Recorded {
    let mut pause = Pause::for_recording();
    let mut waits: Option<Waits> = None;
    loop {
        if !receipt.is_good() {
            return Recorded::InputGone;
        }
        let input = receipt.clone();
        let error = match meaning(context.publisher.publish_if(message.clone(), move || input.is_good()).await) {
            Ok(Recorded::InputGone) => return Recorded::InputGone,
            Ok(Recorded::Yes) => {
                if waits.is_some() {
                    info!(queue = %message.routing_key, "recorded after all");
                }
                return Recorded::Yes;
            }
            Err(error) => error,
        };
        if waits.is_none() {
            warn!(queue = %message.routing_key, %error, "cannot record an outcome yet, trying again");
            waits = Some(context.waiting.enter(message.routing_key.as_str()));
        }
        if let PublishError::Returned { .. } = error {
            redeclare(context, &message.routing_key).await;
        }
        tokio::time::sleep(pause.next(fastrand::f64())).await;
    }
}

/// What the answer to a publish means for its input (rule 5). An error is *not done*: to be done again.
pub(super) fn meaning(answer: Result<(), PublishError>) -> Result<Recorded, PublishError> {
    match answer {
        Ok(()) => Ok(Recorded::Yes),
        Err(PublishError::Unwanted) => Ok(Recorded::InputGone),
        Err(error) => Err(error),
    }
}

async fn redeclare(context: &Context, queue: &ShortString) {
    if !context.settings.topology.declare {
        return;
    }
    let outcome = async {
        let connection = context.publisher.shared().get().await.map_err(|error| error.to_string())?;
        let declaring = crate::broker::topology::declare_one(&connection, &context.plan, queue);
        declaring.await.map_err(|error| error.to_string())
    };
    let outcome = tokio::time::timeout(DECLARING, outcome);
    match outcome.await.unwrap_or_else(|_| Err("the broker does not answer".to_owned())) {
        Ok(()) => warn!(%queue, "a queue of ours was missing and has been declared anew"),
        Err(error) => warn!(%queue, error, "a queue of ours is missing and cannot be declared"),
    }
}
