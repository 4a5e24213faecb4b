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

use super::record::Recorded;

/// What becomes of a delivery, as far as the order of the steps depends on it.
pub trait Outcome {
    /// Whether something must be on the broker before the message may be acked.
    fn has_successor(&self) -> bool;
}

/// What a delivery came to, and whether all that follows from it is on the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Settlement<O> {
    /// What becomes of the delivery.
    pub outcome: O,
    /// Nothing more is to be published: only the ack is missing.
    pub recorded: bool,
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
pub struct Machine<O> {
    next: Next,
    settlement: Option<Settlement<O>>,
}

impl<O: Outcome> Machine<O> {
    /// At its start. `again`: the broker may have given the message to this process before.
    pub fn begin(again: bool) -> Machine<O> {
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
    pub fn recalled(&mut self, known: Option<Settlement<O>>, good: bool) {
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
    pub fn decided(&mut self, outcome: Option<O>) {
        let Some(outcome) = outcome else {
            self.next = Next::Left;
            return;
        };
        let recorded = !outcome.has_successor();
        self.next = if recorded { Next::Settled } else { Next::Publish };
        self.settlement = Some(Settlement { outcome, recorded });
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
    pub fn settlement(&self) -> Option<&Settlement<O>> {
        self.settlement.as_ref()
    }

    /// The same, for one that has come to its end.
    pub fn into_settlement(self) -> Option<Settlement<O>> {
        self.settlement
    }
}
