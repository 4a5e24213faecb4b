//! The order of the steps that settle one delivery, and nothing else. It does nothing by itself. The worker drives it
//! (`worker::settle`) and the model checker explores it (`worker::model`), so the checker proves the code that runs.
//!
//! ```text
//!  Recall --nothing known--> Decide --delivered----------------------> Settled
//!    |                          '-----has a successor--> Publish -----> Settled
//!    |--known, recorded-------------------------------------------------> Settled
//!    '--known, not recorded-----------------------------> Publish
//!  and from each of them, if the message's channel is found to be gone ----> Left
//! ```

/// A decision about a delivery, as far as the order of the steps depends on it.
pub trait Decision {
    /// The message that must be on the broker before the input may be acked.
    type Successor;

    /// Returns the successor, or `None` if nothing more must be done.
    fn successor(&self) -> Option<&Self::Successor>;
}

/// The result of a delivery, and whether its successor is on the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Settlement<D> {
    /// The decision about the delivery.
    pub decision: D,
    /// True if nothing remains to be published and only the ack is missing.
    pub recorded: bool,
}

/// Whether a successor is on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Confirmed: the input may be acked.
    Yes,
    /// The channel that delivered the input is gone. Nothing may rely on the successor, and the input comes again.
    InputGone,
}

/// The step that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    /// Ask the memory, and wait for an attempt that is still running.
    Recall,
    /// Make the decision, mostly by an attempt.
    Decide,
    /// Publish the successor, until it is confirmed or the message's channel is gone.
    Publish,
    /// Nothing. As far as this delivery is concerned, the message may be acked.
    Settled,
    /// Nothing. The message comes again.
    Left,
}

/// The state of one delivery of one message; the module's diagram shows the steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine<D> {
    next: Next,
    settlement: Option<Settlement<D>>,
}

impl<D: Decision> Machine<D> {
    /// Returns the machine at its start. `again`: the broker may have given the message to this process before.
    pub fn begin(again: bool) -> Machine<D> {
        Machine { next: if again { Next::Recall } else { Next::Decide }, settlement: None }
    }

    /// Returns the step that is due.
    pub fn next(&self) -> Next {
        self.next
    }

    /// Notes what the memory knows. `good`: the message's channel still exists.
    ///
    /// Without its channel nothing is done, whatever is known. The next worker may have recorded the outcome already,
    /// and this one must not overwrite it. If nothing is known, the attempt would be made twice.
    pub fn recalled(&mut self, known: Option<Settlement<D>>, good: bool) {
        self.next = match known {
            _ if !good => Next::Left,
            None => Next::Decide,
            Some(settlement) => {
                let next = if settlement.recorded { Next::Settled } else { Next::Publish };
                self.settlement = Some(settlement);
                next
            }
        };
    }

    /// Notes the decision. `None`: the channel was gone before anything was done.
    pub fn decided(&mut self, decision: Option<D>) {
        let Some(decision) = decision else {
            self.next = Next::Left;
            return;
        };
        let recorded = decision.successor().is_none();
        self.next = if recorded { Next::Settled } else { Next::Publish };
        self.settlement = Some(Settlement { decision, recorded });
    }

    /// Returns the successor while it is due to be published.
    pub fn to_publish(&self) -> Option<&D::Successor> {
        let due = self.settlement.as_ref().filter(|_| self.next == Next::Publish)?;
        due.decision.successor()
    }

    /// Notes whether the successor is on the broker.
    pub fn published(&mut self, recorded: Recorded) {
        if let Some(settlement) = &mut self.settlement {
            settlement.recorded = recorded == Recorded::Yes;
        }
        self.next = match recorded {
            Recorded::Yes => Next::Settled,
            Recorded::InputGone => Next::Left,
        };
    }

    /// Returns the result, or `None` if nothing was done. It must be remembered before the ack, because a lost ack
    /// brings the message back.
    pub fn settlement(&self) -> Option<&Settlement<D>> {
        self.settlement.as_ref()
    }

    /// Returns the result of a machine that has ended.
    pub fn into_settlement(self) -> Option<Settlement<D>> {
        self.settlement
    }
}
