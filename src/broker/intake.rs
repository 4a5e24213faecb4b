//! The two queues that a worker consumes.

/// One of the two queues that a worker consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// Lead events, which become attempts or jobs.
    Events,
    /// Jobs, which become attempts.
    Jobs,
}

impl Intake {
    /// The queue's name without the prefix. Also the role of its connection, in the management UI and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Intake::Events => "events",
            Intake::Jobs => "jobs",
        }
    }

    /// Returns the other one.
    pub fn other(self) -> Intake {
        match self {
            Intake::Events => Intake::Jobs,
            Intake::Jobs => Intake::Events,
        }
    }
}
