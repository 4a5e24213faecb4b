//! Which failed jobs are meant: by filter, by id, or all.

use jiff::Timestamp;

use crate::{
    cli::{
        arguments::{About, moment},
        output::Refusal,
    },
    desk::{
        filter::{self, Filter},
        selection::Selection,
        survey::Choice,
    },
};

/// What all that is said must hold for.
#[derive(clap::Args, Clone)]
pub(super) struct FilterArgs {
    #[command(flatten)]
    about: About,
    /// Only what failed for this reason, such as exhausted or gone
    #[arg(long, value_name = "REASON", value_parser = filter::reason)]
    reason: Option<String>,
    /// Only what came to this at its last attempt, such as timeout, status or tls_expired
    #[arg(long, value_name = "WORD")]
    error: Option<String>,
    /// Only what failed at this time or later: an age (90m, 2h, 3d), a date (2024-06-15, UTC) or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what failed before this time
    #[arg(long, value_name = "WHEN", value_parser = moment, visible_alias = "older-than")]
    before: Option<Timestamp>,
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
            since: self.since,
            before: self.before,
        }
    }
}

/// What something is to be done with: some by their ids, those that a filter lets through, or all.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Webhook-ids, or their beginnings (at least 6 characters)
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that is on the failed queue now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Which {
    /// What that comes to.
    ///
    /// # Errors
    /// Nothing is said, or two things at once; an id is too short.
    pub(super) fn choice(&self) -> Result<Choice, Refusal> {
        self.narrowed(false)
    }

    /// The same, where something else narrows what is meant: then nothing needs to be said here.
    ///
    /// # Errors
    /// As [`Which::choice`].
    pub(super) fn narrowed(&self, narrowed: bool) -> Result<Choice, Refusal> {
        chosen(&self.ids, self.all, self.filter.filter(), narrowed, "--campaign")
    }
}

/// What was said: ids, a filter, or all; or nothing, where something else narrows what is meant. `such_as` is a filter to name.
///
/// # Errors
/// Nothing is said, or two things at once; an id is too short.
pub(in crate::cli) fn chosen(
    ids: &[String],
    all: bool,
    filter: Filter,
    narrowed: bool,
    such_as: &str,
) -> Result<Choice, Refusal> {
    match (ids.is_empty(), all, filter.is_empty()) {
        (false, false, true) => Selection::new(ids).map(Choice::Named).map_err(Refusal::usage),
        (true, true, true) | (true, false, false) => Ok(Choice::Matching(filter)),
        (true, false, true) if narrowed => Ok(Choice::Matching(filter)),
        (true, false, true) => Err(Refusal::usage(format!("say which: ids, filters such as {such_as}, or --all"))),
        (false, ..) | (true, true, false) => {
            Err(Refusal::usage("ids, filters and --all exclude one another: say one of them"))
        }
    }
}
