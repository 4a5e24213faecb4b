//! Settling: what must have happened before a message may be acked, for events and jobs alike.

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

/// One delivery of a message.
pub(super) struct Delivery<'a> {
    /// Settles the message.
    pub receipt: &'a Receipt,
    /// The event for one target.
    pub job: &'a Job,
    /// The results of earlier deliveries of such messages.
    pub memory: &'a Memory,
    /// This one in it.
    pub key: Key,
    /// The broker may have given the message to this process before.
    pub again: bool,
}

impl Delivery<'_> {
    /// Does all that must be done before the message may be acked: what was begun before, or what `decide` says. `None`: the
    /// message comes again.
    ///
    /// # Errors
    /// Those of `decide`; nothing is settled then.
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
            // Most are delivered: their tasks need no room for this.
            let now = jiff::Timestamp::now();
            let recorded = Box::pin(record(context, receipt, || message::message(context, job, successor, now))).await;
            machine.published(recorded);
        }
        // Remembered before the ack: an ack that is lost brings the message back.
        if let (Some(ticket), Some(settlement)) = (ticket, machine.settlement()) {
            ticket.finish(settlement.clone());
        }
        let is_settled = machine.next() == Next::Settled;
        Ok(machine.into_settlement().filter(|_| is_settled).map(|settlement| settlement.decision))
    }
}

/// Logs and counts what became of a delivery, once, here.
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
