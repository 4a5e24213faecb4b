//! Arguments that several commands take, read alike.

use jiff::Timestamp;

use crate::{desk::filter, event::EventKind};

/// What a question is about: all that is said must hold.
#[derive(clap::Args, Clone)]
pub(super) struct About {
    /// Only what concerns this lead
    #[arg(long, value_name = "ID")]
    pub lead: Option<String>,
    /// Only what concerns this submission
    #[arg(long, value_name = "ID")]
    pub submission: Option<String>,
    /// Only of this campaign
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// Only of this organization
    #[arg(long, value_name = "ID")]
    pub organization: Option<String>,
    /// Only to this target: organization, organization/campaign, either with #name
    #[arg(long, value_name = "KEY")]
    pub target: Option<String>,
    /// Only this event, such as lead.delivered
    #[arg(long, value_name = "EVENT", value_parser = event_kind)]
    pub event: Option<EventKind>,
}

/// The name of an event.
fn event_kind(text: &str) -> Result<EventKind, String> {
    EventKind::parse(text).ok_or_else(|| format!("expected one of {}", EventKind::ALL.map(EventKind::name).join(", ")))
}

/// A moment as people write it.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    filter::moment(text, Timestamp::now())
}
