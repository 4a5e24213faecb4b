//! Settling: what must have happened before a message may be acked, for events and jobs alike.

pub mod gate;
pub mod machine;
pub mod memory;
pub mod record;

use tracing::debug;

use self::{
    machine::{Machine, Next, Settlement},
    memory::{Key, Memory},
    record::record,
};
use super::{Context, child_process::Died, input::Receipt, log, step::Step};
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
        decide: impl AsyncFnOnce() -> Result<Option<Step>, Died>,
    ) -> Result<Option<Step>, Died> {
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
        if machine.next() == Next::Publish {
            ticket.get_or_insert_with(|| memory.begin(key));
            if let Some(Settlement { outcome, .. }) = machine.settlement() {
                // Most are delivered: their tasks need no room for this.
                let now = jiff::Timestamp::now();
                let recorded = Box::pin(record(context, receipt, || outcome.message(context, job, now))).await;
                machine.published(recorded);
            }
        }
        let settled = machine.next() == Next::Settled;
        let settlement = machine.into_settlement();
        // Remembered before the ack: an ack that is lost brings the message back.
        if let (Some(ticket), Some(settlement)) = (ticket, &settlement) {
            ticket.finish(settlement.clone());
        }
        Ok(settlement.filter(|_| settled).map(|settlement| settlement.outcome))
    }
}

/// Says what became of a delivery, once, here.
pub(super) fn report(context: &Context, job: &Job, step: &Step) {
    log::stepped(context, job, step);
    context.reports.settled(job, step);
    match step {
        Step::Delivered => context.metrics.job_delivered(),
        Step::Refuse { keep, .. } => context.metrics.job_refused(*keep),
        Step::Retry { reason, .. } => context.metrics.job_retry(reason.label()),
        Step::Fail { reason, .. } => context.metrics.job_failed(reason.label()),
        Step::Defer { reason, .. } => context.metrics.job_deferred(reason.label()),
        Step::Forward | Step::Wait { .. } => {}
    }
}
