//! Taking messages from a consumer and starting work on them: slots, the gate, and jobs that must run alone.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, StreamExt};
use lapin::{message::Delivery, options::BasicCancelOptions};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Context, deliver::deliver, dispatch::dispatch, gate::Gate, input::Input, session::Consuming};

/// Deliveries of one message from which it runs alone: it may be what kills the process (rule 4).
const SUSPECT: u64 = 8;

/// Takes events until stopped or the consumer ends; says why if it ended. Their number is bounded by the prefetch.
pub(super) async fn events(context: &Arc<Context>, mut from: Consuming, stop: &CancellationToken) -> Option<String> {
    let mut gate = Gate::new(context.publisher.link(), &context.waiting, context.settings.delivery.concurrency);
    let end = loop {
        let input = match next(&mut from, stop).await {
            Ok(input) => input,
            Err(end) => break end,
        };
        if !pass(&mut gate, &input, stop).await {
            continue;
        }
        let context = context.clone();
        context.tasks.clone().spawn(async move {
            let receipt = input.receipt.clone();
            guarded(dispatch(&context, input), async { receipt.give_back().await }).await;
        });
    };
    give_back_the_rest(from).await;
    end
}

/// Takes jobs until stopped or the consumer ends, as many at once as there are slots; says why if it ended.
pub(super) async fn jobs(context: &Arc<Context>, mut from: Consuming, stop: &CancellationToken) -> Option<String> {
    let slots = context.settings.delivery.concurrency;
    let mut gate = Gate::new(context.publisher.link(), &context.waiting, slots);
    let end = loop {
        let slot = match stop.run_until_cancelled(context.slots.clone().acquire_owned()).await {
            Some(Ok(slot)) => slot,
            Some(Err(_)) | None => break None,
        };
        let input = match next(&mut from, stop).await {
            Ok(input) => input,
            Err(end) => break end,
        };
        if !pass(&mut gate, &input, stop).await {
            continue;
        }
        if input.delivery_count() < SUSPECT {
            start(context, input, slot);
            continue;
        }
        // Alone: every other slot is taken until it is settled.
        drop(slot);
        let all = u32::try_from(slots).unwrap_or(u32::MAX);
        match stop.run_until_cancelled(context.slots.clone().acquire_many_owned(all)).await {
            Some(Ok(every_slot)) => start(context, input, every_slot),
            Some(Err(_)) | None => {
                input.receipt.give_back().await;
                break None;
            }
        }
    };
    give_back_the_rest(from).await;
    end
}

/// The next message; `Err` at the end, with the reason unless it is the stop.
async fn next(from: &mut Consuming, stop: &CancellationToken) -> Result<Input, Option<String>> {
    match stop.run_until_cancelled(from.consumer.next()).await {
        Some(Some(Ok(delivery))) => Ok(Input::new(delivery)),
        Some(Some(Err(error))) => Err(Some(error.to_string())),
        Some(None) => Err(Some("the broker cancelled the consumer".into())),
        None => Err(None),
    }
}

/// Waits for the gate. `false`: the message is not to be started, and has been given back where that is possible.
async fn pass(gate: &mut Gate, input: &Input, stop: &CancellationToken) -> bool {
    let passed = stop.run_until_cancelled(gate.opened()).await.is_some();
    if !passed {
        input.receipt.give_back().await;
    }
    passed && input.receipt.is_good()
}

fn start(context: &Arc<Context>, input: Input, slot: OwnedSemaphorePermit) {
    let context = context.clone();
    let free = context.slots.clone();
    context.tasks.clone().spawn(async move {
        let slots = context.settings.delivery.concurrency;
        let receipt = input.receipt.clone();
        context.metrics.set_in_flight(slots.saturating_sub(free.available_permits()));
        guarded(deliver(&context, input), async { receipt.give_back().await }).await;
        drop(slot);
        context.metrics.set_in_flight(slots.saturating_sub(free.available_permits()));
    });
}

/// A panic outside an attempt is a bug of ours: the message goes back, and its delivery count says when to stop trying.
async fn guarded(work: impl Future<Output = ()>, give_back: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        error!("settling a message panicked: this is a bug in leadhook; the message goes back to its queue");
        give_back.await;
    }
}

/// Stops the consumer and gives back what was sent ahead and never started: that costs no attempt.
async fn give_back_the_rest(mut from: Consuming) {
    let cancelled = from.channel.basic_cancel(from.consumer.tag(), BasicCancelOptions::default()).await;
    if cancelled.is_err() {
        return;
    }
    while let Some(Ok(delivery)) = from.consumer.next().await {
        let delivery: Delivery = delivery;
        Input::new(delivery).receipt.give_back().await;
    }
}
