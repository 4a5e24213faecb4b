//! Taking messages from a consumer and starting work on them: slots, the gate, and suspects.

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

/// Longest wait for the broker when giving back; what is left goes back with the connection.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// How an intake ended.
pub(crate) struct End {
    /// Why, unless it was stopped.
    pub(crate) why: Option<String>,
    /// It consumes no more, and the broker has back what was not started.
    pub(crate) gave_back: bool,
    /// To be kept until all is settled: lapin closes a channel with its last handle, and receipts turn bad with it.
    pub(crate) source: Source,
}

/// Takes messages and starts work on them, until stopped or the consumer ends.
pub(crate) async fn run(context: Arc<Context>, intake: Intake, mut from: Source, stop: CancellationToken) -> End {
    let why = match intake {
        Intake::Events => events(&context, &mut from, &stop).await,
        Intake::Jobs => jobs(&context, &mut from, &stop).await,
    };
    finish(from, why).await
}

/// Takes events; says why if the consumer ended. Their number is bounded by the prefetch.
async fn events(context: &Arc<Context>, from: &mut Source, stop: &CancellationToken) -> Option<String> {
    let mut gate = context.gate();
    loop {
        let input = match next(from, stop).await {
            Ok(input) => input,
            Err(end) => return end,
        };
        let Some(input) = renewed(context, input, Intake::Events) else { continue };
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
            of_no_panic(ended, &context, &receipt);
        });
    }
}

/// Takes jobs, as many at once as there are slots; says why if the consumer ended.
async fn jobs(context: &Arc<Context>, from: &mut Source, stop: &CancellationToken) -> Option<String> {
    let mut gate = context.gate();
    loop {
        let input = match next(from, stop).await {
            Ok(input) => input,
            Err(end) => return end,
        };
        let Some(input) = renewed(context, input, Intake::Jobs) else { continue };
        // Not before there is a job: direct attempts can use the slot meanwhile.
        let Some(slot) = stop.run_until_cancelled(context.slots.job()).await.flatten() else {
            input.receipt.give_back();
            return None;
        };
        if pass(&mut gate, &input, stop).await {
            start(context, input, slot);
        }
    }
}

/// The next message; `Err` at the end, with the reason unless it is the stop.
async fn next(from: &mut Source, stop: &CancellationToken) -> Result<Input, Option<String>> {
    if stop.is_cancelled() {
        return Err(None);
    }
    // What is there already needs no place among those who wait for the stop.
    let next = match from.there() {
        Some(there) => Some(there),
        None => stop.run_until_cancelled(from.next()).await,
    };
    match next {
        Some(Some(Ok(input))) => Ok(input),
        Some(Some(Err(error))) => Err(Some(error.to_string())),
        Some(None) => Err(Some("the broker cancelled the consumer".into())),
        None => Err(None),
    }
}

/// Waits for the gate. `false`: the message is not to be started, and has been given back where that is possible.
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
        of_no_panic(ended, &context, &receipt);
    });
}

/// Settles a suspect. A panic that its child did not meet returns after a pause, so that the message does not come again
/// at once, each time.
async fn suspect(context: &Context, input: Box<Input>, intake: Intake) -> std::thread::Result<()> {
    let settling = poison::settle(context, input, intake);
    let ended = AssertUnwindSafe(Box::pin(settling)).catch_unwind().await;
    if ended.is_err() {
        tokio::time::sleep(poison::pause()).await;
    }
    ended
}

/// The message, unless it has to be published again first. That needs no slot, and the gate may be closed: other
/// outcomes wait then.
fn renewed(context: &Arc<Context>, input: Input, intake: Intake) -> Option<Input> {
    if !poison::is_due_for_renewal(&input) {
        return Some(input);
    }
    let context = context.clone();
    context.tasks.clone().spawn(async move { poison::renew(&context, Box::new(input), intake).await });
    None
}

/// A panic outside an attempt is a bug of ours: the message goes back, and its delivery count says when to stop trying.
///
/// Takes what `catch_unwind` returned and not the future: a future handed on has room for it in both tasks, and there
/// is one for each message.
fn of_no_panic(ended: std::thread::Result<()>, context: &Context, receipt: &Receipt) {
    if ended.is_err() {
        error!("settling a message panicked: this is a bug in leadhook; the message goes back to its queue");
        context.metrics.panic();
        receipt.reject();
    }
}

/// Stops the consumer and gives back what was sent ahead and never started: that costs no attempt. There is nothing to
/// give back on a consumer that ended by itself.
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
