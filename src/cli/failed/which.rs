//! The choice of messages: by filter, by id, or all.

use clap::builder::PossibleValuesParser;

use crate::{
    cli::{
        arguments::{About, FILTERS, Window},
        dead_letters::too_short,
        output::Refusal,
    },
    dead_letters::{
        filter::{self, Filter},
        given_ids::GivenIds,
        selection::Choice,
    },
};

// Filters by id, reason and time. All given filters must match.
#[derive(clap::Args, Clone)]
pub(super) struct FilterArgs {
    #[command(flatten)]
    pub about: About,
    /// Only jobs that failed for this reason
    #[arg(short, long, value_name = "REASON", value_parser = reason(), help_heading = FILTERS)]
    reason: Option<String>,
    /// Only jobs whose last attempt had this result
    #[arg(long, value_name = "ERROR", value_parser = PossibleValuesParser::new(filter::errors()), help_heading = FILTERS)]
    error: Option<String>,
    #[command(flatten)]
    pub window: Window,
}

impl FilterArgs {
    pub(super) fn filter(&self) -> Filter {
        let About { lead, submission, campaign, organization, target, event } = self.about.clone();
        Filter {
            lead,
            submission,
            campaign,
            organization,
            target,
            event,
            reason: self.reason.clone(),
            error: self.error.clone(),
            since: self.window.since,
            before: self.window.before,
        }
    }
}

// The jobs that a command works on: chosen by id or by filter, or all.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Webhook-ids, or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All jobs that are on the failed queue now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl Which {
    /// Checks the choice and returns it.
    ///
    /// # Errors
    /// The user chose nothing or chose in two ways at once, or an id is too short.
    pub(super) fn choice(&self) -> Result<Choice, Refusal> {
        self.narrowed(false)
    }

    /// Does the same for a command with another option that narrows the choice. If that option is given, `--all` is not
    /// needed.
    ///
    /// # Errors
    /// As [`Which::choice`].
    pub(super) fn narrowed(&self, narrowed: bool) -> Result<Choice, Refusal> {
        chosen(&self.ids, self.all, self.filter.filter(), narrowed, "--campaign")
    }
}

/// Checks that exactly one of ids, filter and all is given. With `narrowed`, none of them is needed. `such_as` is a
/// filter to name in the message.
///
/// # Errors
/// The user chose nothing or chose in two ways at once, or an id is too short.
pub(in crate::cli) fn chosen(
    ids: &[String],
    all: bool,
    filter: Filter,
    narrowed: bool,
    such_as: &str,
) -> Result<Choice, Refusal> {
    match (ids.is_empty(), all, filter.is_empty()) {
        (false, false, true) => GivenIds::new(ids).map(Choice::Named).map_err(too_short),
        (true, true, true) | (true, false, false) => Ok(Choice::Matching(filter)),
        (true, false, true) if narrowed => Ok(Choice::Matching(filter)),
        (true, false, true) => Err(Refusal::usage(
            "no messages are chosen: the command line has neither ids nor filters",
            format!("give ids, filters such as {such_as}, or --all"),
        )),
        (false, ..) | (true, true, false) => Err(Refusal::usage(
            "ids, filters and --all exclude one another: the command line has several of them",
            "give one of them",
        )),
    }
}

/// Returns a parser for the reasons on the failed queue.
pub(super) fn reason() -> PossibleValuesParser {
    PossibleValuesParser::new(filter::reasons())
}
