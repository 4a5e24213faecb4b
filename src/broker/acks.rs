//! Decides which acks may share a frame. Pure.
//!
//! AMQP can ack "this delivery and all before it" in one frame. Deliveries of a channel are numbered in order, so a run
//! of due acks at the front of the outstanding deliveries needs only one frame. That saves the broker work. No ack
//! waits for this: only acks that are due at the same moment are combined.

use std::collections::VecDeque;

/// One `basic.ack` to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Delivery tag. It must be outstanding when the frame is sent, or RabbitMQ closes the channel.
    pub tag: u64,
    /// Whether the ack covers all earlier deliveries as well.
    pub multiple: bool,
}

/// The unsettled deliveries of one channel. The broker numbers deliveries from 1, without a gap.
#[derive(Debug)]
pub struct Outstanding {
    /// The tag of the first entry, or of the next delivery if there is none.
    first: u64,
    /// Whether each delivery from `first` on is settled. The first one never is.
    settled: VecDeque<bool>,
}

impl Default for Outstanding {
    fn default() -> Outstanding {
        Outstanding { first: 1, settled: VecDeque::new() }
    }
}

impl Outstanding {
    /// Notes that a delivery has arrived. Earlier ones that have not arrived are outstanding as well, and no frame may
    /// cover them.
    pub fn taken(&mut self, tag: u64) {
        while self.first + (self.settled.len() as u64) <= tag {
            self.settled.push_back(false);
        }
    }

    /// Notes that a delivery was given back, which settles it without an ack.
    pub fn given_back(&mut self, tag: u64) {
        self.mark(tag);
        self.forget_front();
    }

    /// Returns the frames for acks that are all due now.
    pub fn ack(&mut self, due: &[u64]) -> Vec<Frame> {
        due.iter().for_each(|tag| self.mark(*tag));
        self.forget_front();
        let before = |tag: u64| tag < self.first;
        let run = due.iter().copied().filter(|tag| before(*tag));
        let (last, length) = run.fold((0, 0), |(last, length), tag| (tag.max(last), length + 1));
        let mut frames = Vec::new();
        if length > 0 {
            frames.push(Frame { tag: last, multiple: length > 1 });
        }
        frames.extend(due.iter().filter(|tag| !before(**tag)).map(|tag| Frame { tag: *tag, multiple: false }));
        frames
    }

    fn mark(&mut self, tag: u64) {
        let at = tag.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(settled) = at.and_then(|at| self.settled.get_mut(at)) {
            *settled = true;
        }
    }

    fn forget_front(&mut self) {
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(tag: u64) -> Frame {
        Frame { tag, multiple: false }
    }

    fn all_up_to(tag: u64) -> Frame {
        Frame { tag, multiple: true }
    }

    fn outstanding(to: u64) -> Outstanding {
        let mut outstanding = Outstanding::default();
        (1..=to).for_each(|tag| outstanding.taken(tag));
        outstanding
    }

    #[test]
    fn a_run_at_the_front_is_one_frame() {
        let mut outstanding = outstanding(6);
        assert_eq!(outstanding.ack(&[2, 1, 3, 5]), [all_up_to(3), one(5)]);
        assert_eq!(outstanding.ack(&[6]), [one(6)]);
        assert_eq!(outstanding.ack(&[4]), [one(4)], "those after it are acked already");
        outstanding.taken(7);
        assert_eq!(outstanding.ack(&[7]), [one(7)]);
    }

    #[test]
    fn a_frame_never_names_what_is_acked_already() {
        let mut outstanding = outstanding(4);
        assert_eq!(outstanding.ack(&[3, 4]), [one(3), one(4)]);
        assert_eq!(outstanding.ack(&[1, 2]), [all_up_to(2)], "not 4: the broker does not know it any more");
    }

    #[test]
    fn what_was_given_back_is_not_acked_and_stops_no_run() {
        let mut outstanding = outstanding(4);
        outstanding.given_back(2);
        assert_eq!(outstanding.ack(&[1, 3]), [all_up_to(3)]);
        outstanding.given_back(4);
        outstanding.taken(5);
        assert_eq!(outstanding.ack(&[5]), [one(5)]);
    }

    #[test]
    fn what_another_consumer_holds_is_outstanding_too() {
        let mut outstanding = Outstanding::default();
        outstanding.taken(2);
        outstanding.taken(3);
        assert_eq!(outstanding.ack(&[2, 3]), [one(2), one(3)], "not all up to 3: the first has not arrived yet");
        outstanding.taken(1);
        outstanding.taken(4);
        assert_eq!(outstanding.ack(&[1, 4]), [all_up_to(4)]);
    }

    /// Plays the broker: returns what a frame settles, and panics if the broker would refuse it.
    fn settle(unsettled: &mut Vec<u64>, frame: Frame) -> Vec<u64> {
        assert!(unsettled.contains(&frame.tag), "{frame:?} is not outstanding");
        let settles = |tag: &u64| *tag == frame.tag || (frame.multiple && *tag < frame.tag);
        let settled = unsettled.iter().copied().filter(settles).collect();
        unsettled.retain(|tag| !settles(tag));
        settled
    }

    proptest! {
        #[test]
        fn exactly_what_is_due_is_settled(order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(), cuts in prop::collection::vec(1..6usize, 40)) {
            let (mut ours, mut theirs) = (outstanding(40), (1..=40).collect::<Vec<_>>());
            let mut rest = &order[..];
            for cut in cuts {
                let (due, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                let mut settled: Vec<_> = ours.ack(due).into_iter().flat_map(|frame| settle(&mut theirs, frame)).collect();
                let mut due = due.to_vec();
                settled.sort_unstable();
                due.sort_unstable();
                prop_assert_eq!(settled, due);
            }
        }
    }
}
