//! How a lane stands, and why a job of it was parked: the words that people and metrics get.

/// How a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its attempts are answered.
    Open,
    /// Some of its attempts fail, or have failed lately, and its limit is the lower for it.
    Limited,
    /// One attempt at a time, or attempts that nobody answers.
    Probing,
    /// It asked to be left alone.
    PushedBack,
}

/// Why a job is parked, the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkReason {
    /// The lane answers, and has as many attempts in flight as it may.
    Saturated,
    /// The attempts of others leave it no room in this worker.
    Crowded,
    /// The lane does not answer, or its attempts fail.
    Failing,
    /// The target asked to be left alone (429, `Retry-After`).
    PushedBack,
}

impl ParkReason {
    /// Every reason.
    pub const ALL: [ParkReason; 4] =
        [ParkReason::Saturated, ParkReason::Crowded, ParkReason::Failing, ParkReason::PushedBack];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            ParkReason::Saturated => "saturated",
            ParkReason::Crowded => "crowded",
            ParkReason::Failing => "failing",
            ParkReason::PushedBack => "pushed_back",
        }
    }
}

impl Standing {
    /// Every standing, the best first.
    pub const ALL: [Standing; 4] = [Standing::Open, Standing::Limited, Standing::Probing, Standing::PushedBack];

    /// The word in tables and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Limited => "limited",
            Standing::Probing => "probing",
            Standing::PushedBack => "pushed_back",
        }
    }
}
