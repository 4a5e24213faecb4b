//! The rejected messages that a command works on.

use clap::builder::PossibleValuesParser;

use crate::{
    cli::{
        arguments::{FILTERS, Window},
        failed::which,
        output::Refusal,
    },
    dead_letters::{filter::Filter, selection::Choice},
    rejection::RejectReason,
};

// The rejected messages that a command works on.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Message ids (`raw_...` for a message without one), or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<String>,
    /// All messages that are on the rejected queue now
    #[arg(long, conflicts_with = "ids")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
}

// Filters by reason and time. All given filters must match.
#[derive(clap::Args)]
pub(super) struct FilterArgs {
    /// Only messages that were rejected for this reason
    #[arg(
        short,
        long,
        value_name = "REASON",
        value_parser = PossibleValuesParser::new(RejectReason::ALL.map(RejectReason::label)),
        help_heading = FILTERS
    )]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) window: Window,
}

impl FilterArgs {
    /// Returns the filter, and prints the time range that it covers.
    pub(super) fn filter(&self) -> Filter {
        self.window.tell();
        let Window { since, before } = self.window;
        Filter { reason: self.reason.clone(), since, before, ..Filter::default() }
    }
}

impl Which {
    pub(super) fn choice(&self) -> Result<Choice, Refusal> {
        which::chosen(&self.ids, self.all, self.filter.filter(), false, "--reason")
    }
}
