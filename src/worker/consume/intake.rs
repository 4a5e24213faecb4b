//! Takes messages from a consumer and starts work on them, with regard to slots, the gate and suspects.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::source::Source;
use crate::{
    broker::Intake,
    worker::{
        context::Context,
        deliver::deliver,
        dispatch::dispatch,
        message::{Input, Receipt},
        poison,
        settle::gate::Gate,
        slots::Slot,
    },
};

/// Longest wait for the broker while giving messages back. The rest returns when the connection ends.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// How an intake ended.
pub(crate) struct End {
    /// The reason, unless it was stopped.
    pub(crate) why: Option<String>,
    /// It no longer consumes, and the broker has taken back the messages that were not started.
    pub(crate) gave_back: bool,
    /// Must be kept until all is settled: lapin closes a channel with its last handle, and the receipts become invalid.
    pub(crate) source: Source,
}

/// Takes messages and starts work on them, until stopped or until the consumer ends.
pub(crate) async fn run(context: Arc<Context>, intake: Intake, mut from: Source, stop: CancellationToken) -> End {
    let why = match intake {
        Intake::Events => events(&context, &mut from, &stop).await,
        Intake::Jobs => jobs(&context, &mut from, &stop).await,
    };
    finish(from, why).await
}

/// Takes events, bounded in number by the prefetch. Returns the reason if the consumer ended.
async fn events(context: &Arc<Context>, from: &mut Source, stop: &CancellationToken) -> Option<String> {
    let mut gate = context.gate();
    loop {
        let input = match next(from, stop).await {
            Ok(input) => input,
            Err(end) => return end,
        };
        let Some(input) = renew_if_due(context, input, Intake::Events) else { continue };
        if !pass(&mut gate, &input, stop).await {
            continue;
        }
        let (context, input) = (context.clone(), Box::new(input));
        context.tasks.clone().spawn(async move {
            let receipt = input.receipt.clone();
            let ended = match poison::is_suspect(&input) {
                false => AssertUnwindSafe(dispatch(&context, input)).catch_unwind().await,
                true => suspect(&context, input, Intake::Events).await,
            };
            reject_if_panicked(ended, &context, &receipt);
        });
    }
}

/// Takes jobs, as many at once as there are slots. Returns the reason if the consumer ended.
async fn jobs(context: &Arc<Context>, from: &mut Source, stop: &CancellationToken) -> Option<String> {
    let mut gate = context.gate();
    loop {
        let input = match next(from, stop).await {
            Ok(input) => input,
            Err(end) => return end,
        };
        let Some(input) = renew_if_due(context, input, Intake::Jobs) else { continue };
        // Takes a slot only now that there is a job, so that direct attempts can use it meanwhile.
        let Some(slot) = stop.run_until_cancelled(context.slots.job()).await.flatten() else {
            input.receipt.give_back();
            return None;
        };
        if pass(&mut gate, &input, stop).await {
            start(context, input, slot);
        }
    }
}

/// Returns the next message; `Err` at the end, with the reason unless it was stopped.
async fn next(from: &mut Source, stop: &CancellationToken) -> Result<Input, Option<String>> {
    if stop.is_cancelled() {
        return Err(None);
    }
    // A message that is here already needs no waiter on the stop token.
    let next = match from.try_next() {
        Some(arrived) => Some(arrived),
        None => stop.run_until_cancelled(from.next()).await,
    };
    match next {
        Some(Some(Ok(input))) => Ok(input),
        Some(Some(Err(error))) => Err(Some(error.to_string())),
        Some(None) => Err(Some("the broker cancelled the consumer".into())),
        None => Err(None),
    }
}

/// Waits for the gate. Returns whether the message may start; if not, it returns to its queue.
async fn pass(gate: &mut Gate, input: &Input, stop: &CancellationToken) -> bool {
    let passed = gate.is_open() || stop.run_until_cancelled(gate.opened()).await.is_some();
    if !passed {
        input.receipt.give_back();
    }
    passed && input.receipt.is_good()
}

fn start(context: &Arc<Context>, input: Input, slot: Slot) {
    let (context, input) = (context.clone(), Box::new(input));
    context.tasks.clone().spawn(async move {
        let receipt = input.receipt.clone();
        let ended = match poison::is_suspect(&input) {
            false => {
                let ended = AssertUnwindSafe(deliver(&context, input, None)).catch_unwind().await;
                drop(slot);
                ended.map(drop)
            }
            true => {
                drop(slot);
                suspect(&context, input, Intake::Jobs).await
            }
        };
        reject_if_panicked(ended, &context, &receipt);
    });
}

/// Settles a suspect. After a panic that its child did not hit, pauses before it returns. Otherwise the message would
/// come back at once, each time.
async fn suspect(context: &Context, input: Box<Input>, intake: Intake) -> std::thread::Result<()> {
    let settling = poison::settle(context, input, intake);
    let ended = AssertUnwindSafe(Box::pin(settling)).catch_unwind().await;
    if ended.is_err() {
        tokio::time::sleep(poison::pause()).await;
    }
    ended
}

/// Starts publishing the message again if that is due, and returns `None`. Otherwise returns the message. The publish
/// takes no slot, and starts even if the gate is closed: like other outcomes, it then waits to be recorded.
fn renew_if_due(context: &Arc<Context>, input: Input, intake: Intake) -> Option<Input> {
    if !poison::is_due_for_renewal(&input) {
        return Some(input);
    }
    let context = context.clone();
    context.tasks.clone().spawn(async move { poison::renew(&context, Box::new(input), intake).await });
    None
}

/// Gives the message back if settling it panicked. A panic outside an attempt is a bug in Leadhook, and the message's
/// delivery count limits how often it repeats.
///
/// Takes the result of `catch_unwind` and not the future: passing the future itself would reserve space for it twice in
/// the task of every message.
fn reject_if_panicked(ended: std::thread::Result<()>, context: &Context, receipt: &Receipt) {
    if ended.is_err() {
        error!("settling a message panicked: this is a bug in leadhook; the message goes back to its queue");
        context.metrics.panic();
        receipt.reject();
    }
}

/// Stops the consumer and gives back the messages that were prefetched and not started, which costs no attempt. A
/// consumer that ended by itself has nothing to give back.
async fn finish(mut source: Source, why: Option<String>) -> End {
    let gave_back = match why {
        None => matches!(tokio::time::timeout(GIVING_BACK, source.give_back()).await, Ok(Ok(()))),
        Some(_) => false,
    };
    if why.is_none() && !gave_back {
        debug!("prefetched messages were not given back; the broker takes them back with the connection");
    }
    End { why, gave_back, source }
}
