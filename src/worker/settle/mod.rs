//! Settles events and jobs: does what must happen before a message may be acked.

pub mod gate;
pub mod machine;
pub mod memory;
mod message;
pub mod record;
pub mod transition;

use tracing::debug;

use self::{
    machine::{Machine, Next},
    memory::{Key, Memory},
    record::record,
    transition::{Successor, Transition},
};
use super::{context::Context, message::Receipt, poison::child_process::Died, report::delivery_log};
use crate::job::Job;

/// One delivery (an event for one target) that must be settled before its message is acked. A message of the events
/// queue can have several.
pub(super) struct Delivery<'a> {
    /// Settles the message.
    pub receipt: &'a Receipt,
    /// The event for one target.
    pub job: &'a Job,
    /// The memory for messages of this kind.
    pub memory: &'a Memory,
    /// The key of this delivery in the memory.
    pub key: Key,
    /// Whether the broker may have given the message to this process before.
    pub again: bool,
}

impl Delivery<'_> {
    /// Does everything that must be done before the message may be acked. Continues what was begun before, or does what
    /// `decide` says. Returns `None` if the message comes again.
    ///
    /// # Errors
    /// Those of `decide`; then nothing is settled.
    pub(super) async fn settle(
        self,
        context: &Context,
        decide: impl AsyncFnOnce() -> Result<Option<Transition>, Died>,
    ) -> Result<Option<Transition>, Died> {
        let Delivery { receipt, job, memory, key, again } = self;
        let mut machine = Machine::begin(again);
        if machine.next() == Next::Recall {
            let known = Box::pin(memory.recall(&key)).await;
            if known.is_some() {
                context.metrics.duplicate_suppressed();
                debug!(webhook_id = job.webhook_id, "settling a redelivered message from memory");
            }
            machine.recalled(known, receipt.is_good());
        }
        let mut ticket = None;
        if machine.next() == Next::Decide {
            ticket = Some(memory.begin(key.clone()));
            machine.decided(decide().await?);
        }
        if let Some(successor) = machine.to_publish() {
            ticket.get_or_insert_with(|| memory.begin(key));
            // Boxed: most deliveries succeed, and their tasks need no room for this.
            let now = jiff::Timestamp::now();
            let recorded = Box::pin(record(context, receipt, || message::message(context, job, successor, now))).await;
            machine.published(recorded);
        }
        // Remembered before the ack, because a lost ack brings the message back.
        if let (Some(ticket), Some(settlement)) = (ticket, machine.settlement()) {
            ticket.finish(settlement.clone());
        }
        let is_settled = machine.next() == Next::Settled;
        Ok(machine.into_settlement().filter(|_| is_settled).map(|settlement| settlement.decision))
    }
}

/// Logs and counts the result of a delivery, exactly once.
pub(crate) fn report(context: &Context, job: &Job, transition: &Transition) {
    delivery_log::settled(context, job, transition);
    context.reports.settled(job, transition);
    match transition {
        Transition::Delivered => context.metrics.job_delivered(),
        Transition::Refused(_) => context.metrics.job_refused(false),
        Transition::Successor(Successor::Refused(_)) => context.metrics.job_refused(true),
        Transition::Successor(Successor::Retry { reason, .. }) => context.metrics.job_retry(reason.label()),
        Transition::Successor(Successor::Fail { reason, .. }) => context.metrics.job_failed(reason.label()),
        Transition::Successor(Successor::Defer { reason, .. }) => context.metrics.job_deferred(reason.label()),
        Transition::Successor(Successor::Forward | Successor::Wait { .. }) => {}
    }
}
