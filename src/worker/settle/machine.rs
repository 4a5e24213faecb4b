//! The order in which one delivery is settled, and nothing else: rules 1, 2, 5 and 6. It does nothing by itself. The
//! worker drives it (`worker::settle`), and the model checker explores it (`worker::model`), so what is proven is this code.
//!
//! ```text
//!  Recall --nothing known--> Decide --delivered----------------------> Settled
//!    |                          '-----has a successor--> Publish -----> Settled
//!    |--known, recorded-------------------------------------------------> Settled
//!    '--known, not recorded-----------------------------> Publish
//!  and from each of them, when nothing was done and the message's channel is gone ----> Left
//! ```

/// What becomes of a delivery, as far as the order of the steps depends on it.
pub trait Decision {
    /// What must be on the broker before the message may be acked.
    type Successor;

    /// Returns the successor. `None`: nothing more is to be done.
    fn successor(&self) -> Option<&Self::Successor>;
}

/// What a delivery came to, and whether all that follows from it is on the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Settlement<D> {
    /// What becomes of the delivery.
    pub decision: D,
    /// Nothing more is to be published: only the ack is missing.
    pub recorded: bool,
}

/// Whether a successor is on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Confirmed: the input may be acked.
    Yes,
    /// The channel that delivered the input is gone: nobody may rely on it, and the input comes again.
    InputGone,
}

/// The step that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    /// Ask the memory, and wait for an attempt that is running.
    Recall,
    /// Find out what becomes of the delivery: mostly by an attempt.
    Decide,
    /// Publish the successor, until it is confirmed or the message's channel is gone.
    Publish,
    /// Nothing: the message may be acked, as far as this delivery is concerned.
    Settled,
    /// Nothing: the message comes again.
    Left,
}

/// The state of one delivery of one message; the module's diagram shows the steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine<D> {
    next: Next,
    settlement: Option<Settlement<D>>,
}

impl<D: Decision> Machine<D> {
    /// At its start. `again`: the broker may have given the message to this process before.
    pub fn begin(again: bool) -> Machine<D> {
        Machine { next: if again { Next::Recall } else { Next::Decide }, settlement: None }
    }

    /// The step that is due.
    pub fn next(&self) -> Next {
        self.next
    }

    /// What the memory knows. `good`: the message's channel is still there.
    ///
    /// Without its channel nothing is done, whatever is known. The next worker may have recorded the outcome already, and must
    /// not find it overwritten; and where nothing is known, the attempt would be made twice.
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

    /// What becomes of the delivery. `None`: its channel was gone before anything was done.
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

    /// Whether the successor is on the broker.
    pub fn published(&mut self, recorded: Recorded) {
        if let Some(settlement) = &mut self.settlement {
            settlement.recorded = recorded == Recorded::Yes;
        }
        self.next = match recorded {
            Recorded::Yes => Next::Settled,
            Recorded::InputGone => Next::Left,
        };
    }

    /// The result to remember before the ack, which may be lost and bring the message back. None: nothing was done.
    pub fn settlement(&self) -> Option<&Settlement<D>> {
        self.settlement.as_ref()
    }

    /// The same, for one that has come to its end.
    pub fn into_settlement(self) -> Option<Settlement<D>> {
        self.settlement
    }
}
