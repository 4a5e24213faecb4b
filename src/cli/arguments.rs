//! Arguments that several commands share.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::{
    output::{self, Colour, Refusal, Terminal},
    readable::clock,
};
use crate::{
    dead_letters::filter,
    event::EventKind,
    settings::{self, Settings},
    store::{self, Severity, Store, nearest},
};

// Help headings, in the order in which they appear.
pub(super) const FILTERS: &str = "Filters";
pub(super) const OUTPUT: &str = "Output";
const CONFIGURATION: &str = "Configuration";

// For commands that read the settings but not the webhook store.
#[derive(clap::Args)]
pub(super) struct SettingsArgs {
    /// File with the settings [default: config/leadhook.toml if it exists, else the built-in defaults]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LEADHOOK_CONFIG",
        value_parser = OsStringValueParser::new().map(PathBuf::from),
        help_heading = CONFIGURATION
    )]
    config: Option<PathBuf>,
}

impl SettingsArgs {
    /// Returns the settings file, if one is named. An empty variable counts as not set, as for every setting.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.config.clone().filter(|path| !path.as_os_str().is_empty())
    }

    pub(super) fn load(&self) -> Result<Settings, Refusal> {
        load(self.file(), None)
    }
}

// For commands that also read the webhook store.
#[derive(clap::Args)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Webhook store: a file, or a directory of files [default: store.path in the settings]
    #[arg(long, global = true, value_name = "PATH", help_heading = CONFIGURATION)]
    store: Option<PathBuf>,
}

impl StoreArgs {
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.settings.file()
    }

    pub(super) fn store(&self) -> Option<PathBuf> {
        self.store.clone()
    }

    pub(super) fn load(&self) -> Result<Settings, Refusal> {
        load(self.file(), self.store())
    }
}

fn load(file: Option<PathBuf>, store: Option<PathBuf>) -> Result<Settings, Refusal> {
    settings::load(file.as_deref(), store.as_deref(), settings::environment())
        .map_err(|problems| Refusal::usage(problems.to_string(), "correct them; `leadhook check` shows all settings"))
}

/// Loads the webhook store of these settings.
///
/// # Errors
/// The store cannot be used. The refusal names all its errors.
pub(super) fn open_store(settings: &Settings) -> Result<Store, Refusal> {
    store::load(&settings.store.path, &settings.secrets).map_err(|problems| {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let errors: Vec<_> = errors.map(ToString::to_string).collect();
        let text = match errors.as_slice() {
            [one] => one.clone(),
            all => format!("{} problems\n  {}", all.len(), all.join("\n  ")),
        };
        Refusal::usage(
            format!("cannot use the webhook store: {text}"),
            "correct it; `leadhook check` lists everything in it",
        )
    })
}

// A command's own arguments, and the options that name its configuration.
#[derive(clap::Args)]
pub(super) struct With<A: clap::Args, F: clap::Args> {
    #[command(flatten)]
    pub args: A,
    #[command(flatten)]
    pub from: F,
}

// Options for the output.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct Output {
    /// Print JSON instead of text
    #[arg(short, long, help_heading = OUTPUT)]
    pub json: bool,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Colour::Auto, help_heading = OUTPUT)]
    color: Colour,
}

impl Output {
    pub(super) fn terminal(self) -> Terminal {
        Terminal::detect(self.color)
    }
}

// Filters by id and event. All given filters must match.
#[derive(clap::Args, Clone)]
pub(super) struct About {
    /// Only this lead
    #[arg(short, long, value_name = "ID", help_heading = FILTERS)]
    pub lead: Option<String>,
    /// Only this submission
    #[arg(long, value_name = "ID", help_heading = FILTERS)]
    pub submission: Option<String>,
    /// Only this campaign
    #[arg(short, long, value_name = "ID", help_heading = FILTERS)]
    pub campaign: Option<String>,
    /// Only this organization
    #[arg(short, long, value_name = "ID", help_heading = FILTERS)]
    pub organization: Option<String>,
    /// Only this target: organization or organization/campaign, with #name where a scope has several
    #[arg(short, long, value_name = "KEY", help_heading = FILTERS)]
    pub target: Option<String>,
    /// Only this event
    #[arg(short, long, value_name = "EVENT", value_parser = event(), help_heading = FILTERS)]
    pub event: Option<EventKind>,
}

/// Explains why a filter matched nothing: prints which of its ids the webhook store does not have.
pub(super) fn explain_nothing(
    settings: &Settings,
    organization: Option<&str>,
    campaign: Option<&str>,
    target: Option<&str>,
) {
    if [organization, campaign, target].iter().all(Option::is_none) {
        return;
    }
    let Ok(store) = store::load(&settings.store.path, &settings.secrets) else {
        let path = settings.store.path.display();
        return output::help(&format!("check the ids: the webhook store cannot be read to compare them: {path}"));
    };
    let doubts = doubts(&store, organization, campaign, target);
    match doubts.is_empty() {
        true => output::help("the webhook store has these ids: the filter is right, and nothing matches it"),
        false => doubts.iter().for_each(|doubt| output::help(doubt)),
    }
}

impl About {
    /// Prints which of the ids the webhook store does not have.
    pub(super) fn explain_nothing(&self, settings: &Settings) {
        let About { organization, campaign, target, .. } = self;
        explain_nothing(settings, organization.as_deref(), campaign.as_deref(), target.as_deref());
    }
}

/// Returns a sentence for each id that the webhook store does not have, with the id that was probably meant.
pub(super) fn doubts(
    store: &Store,
    organization: Option<&str>,
    campaign: Option<&str>,
    target: Option<&str>,
) -> Vec<String> {
    let organizations = store.organizations().map(|organization| organization.id.to_string());
    let campaigns = store.organizations().flat_map(|organization| organization.campaigns.iter());
    let kinds = [
        ("organization", organization, organizations.collect::<Vec<_>>()),
        ("campaign", campaign, campaigns.map(|campaign| campaign.id.to_string()).collect()),
        ("target", target, store.webhooks().map(|webhook| webhook.key.to_string()).collect()),
    ];
    kinds.into_iter().filter_map(|(kind, asked, known)| doubt(kind, asked?, &known)).collect()
}

fn doubt(kind: &str, asked: &str, known: &[String]) -> Option<String> {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    if known.contains(&asked) {
        return None;
    }
    let asked_shown = output::printable(asked);
    Some(match nearest(asked, &known) {
        Some(near) => format!("the webhook store has no {kind} {asked_shown}; did you mean {near}?"),
        None => format!("the webhook store has no {kind} {asked_shown}"),
    })
}

// Filters by time.
#[derive(clap::Args, Clone, Copy)]
pub(super) struct Window {
    /// Only from this time on: an age (90m, 2h, 3d), today, yesterday, a time (9:00), a date (2024-06-15), a date and time
    /// (2024-06-15T10:30), or RFC 3339. Without a zone it is UTC
    #[arg(short, long, value_name = "WHEN", value_parser = time, help_heading = FILTERS)]
    pub since: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "WHEN", value_parser = time, visible_alias = "older-than", help_heading = FILTERS)]
    pub before: Option<Timestamp>,
}

impl Window {
    /// Prints the instants that the user's times mean.
    pub(super) fn tell(self) {
        match (self.since, self.before) {
            (None, None) => {}
            (Some(since), None) => output::note(&format!("from {} on", clock(since))),
            (None, Some(before)) => output::note(&format!("before {}", clock(before))),
            (Some(since), Some(before)) => output::note(&format!("from {} to {}", clock(since), clock(before))),
        }
    }
}

/// Parses a point in time as people write it.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    filter::time(text, Timestamp::now())
}

/// Returns a parser for whole numbers within `bounds`.
pub(super) fn number<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("write a whole number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Returns a parser for the names of events.
pub(super) fn event() -> impl TypedValueParser<Value = EventKind> {
    PossibleValuesParser::new(EventKind::ALL.map(EventKind::name))
        .try_map(|name| EventKind::parse(&name).ok_or("it is not an event"))
}

#[cfg(test)]
mod tests {
    use super::doubt;

    #[test]
    fn an_unknown_id_is_answered_with_the_near_one() {
        let known = ["acme".to_owned(), "globex".to_owned()];
        assert_eq!(doubt("organization", "acme", &known), None);
        let near = doubt("organization", "ACME", &known).unwrap();
        assert_eq!(near, "the webhook store has no organization ACME; did you mean acme?");
        assert_eq!(doubt("organization", "zzzzzzz", &known).unwrap(), "the webhook store has no organization zzzzzzz");
    }
}
