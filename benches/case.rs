//! A case: the variants that it runs in turn, and the figures that it derives from their samples.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use crate::{
    figures::{Figure, Sample},
    rig::Broker,
};

/// One variant of a case.
pub struct Variant {
    /// Its name, to which figures refer.
    pub name: &'static str,
    run: Box<Run>,
}

/// Runs a variant once on a broker.
type Run = dyn for<'b> Fn(&'b Broker) -> LocalBoxFuture<'b, anyhow::Result<Vec<Sample>>>;

impl Variant {
    /// Creates a variant.
    pub fn new(
        name: &'static str,
        run: impl for<'b> Fn(&'b Broker) -> LocalBoxFuture<'b, anyhow::Result<Vec<Sample>>> + 'static,
    ) -> Variant {
        Variant { name, run: Box::new(run) }
    }

    /// Runs it once.
    pub fn run<'b>(&self, broker: &'b Broker) -> LocalBoxFuture<'b, anyhow::Result<Vec<Sample>>> {
        (self.run)(broker)
    }
}

/// One case.
pub struct Case {
    /// Its name, for `--cases`.
    pub name: &'static str,
    /// Default number of rounds, which `--runs` overrides: 5 if a round takes seconds, 1 if it takes minutes.
    pub runs: usize,
    /// Limit for one run of one variant. A run that takes longer has failed.
    pub at_most: Duration,
    /// A webhook key that the store must support for this case to run.
    pub needs: Option<&'static str>,
    /// Its variants; each round runs all of them.
    pub variants: Vec<Variant>,
    /// The lines of the table.
    pub figures: Vec<Figure>,
}

impl Case {
    /// Creates a case of five rounds, with at most five minutes for each run.
    pub fn new(name: &'static str, variants: Vec<Variant>, figures: Vec<Figure>) -> Case {
        Case { name, runs: 5, at_most: Duration::from_secs(300), needs: None, variants, figures }
    }

    /// Reduces the case to one round, because a run takes minutes.
    pub fn once(self, at_most: Duration) -> Case {
        Case { runs: 1, at_most, ..self }
    }

    /// Skips the case in a build whose webhook store does not know this key.
    pub fn needs(self, key: &'static str) -> Case {
        Case { needs: Some(key), ..self }
    }
}

/// The size of all cases: full, or a tenth.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Uses a tenth of the time and of the events. Such a run shows that the cases work, and measures nothing.
    pub quick: bool,
}

impl Scale {
    /// Returns this number of events, or a tenth of it.
    pub fn count(self, events: u64) -> u64 {
        if self.quick { events / 10 } else { events }
    }

    /// Returns this many seconds, or a tenth of them.
    pub fn seconds(self, seconds: u64) -> Duration {
        let whole = Duration::from_secs(seconds);
        if self.quick { whole / 10 } else { whole }
    }
}
