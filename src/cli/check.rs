//! `leadhook check`: the summary of both configurations, or everything that is wrong with them at once.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use serde::Serialize;

use super::{
    explain::left_note,
    output::{self, Cell, Exit, Refusal, Table, Terminal, Tone},
};
use crate::{
    egress,
    event::EventKind,
    settings::{self, Settings},
    store::{self, CampaignRule, Placed, Problem, Problems, Severity, Store, TargetKey},
};

/// Validate settings and webhook store, and print what they come to; all problems at once.
#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Loads both configurations and prints the summary, or all their problems.
pub fn run(args: &Args, config: Option<&Path>, store: Option<&Path>) -> Exit {
    let settings = settings::load(config, store, settings::environment());
    let place = match &settings {
        Ok(settings) => Some((settings.store.path.clone(), settings.secrets.clone())),
        Err(_) => settings::store_alone(config, store, settings::environment()),
    };
    let store = place.map(|(path, secrets)| store::load(&path, &secrets));
    let store = store.as_ref().map(Result::as_ref);
    let (text, exit) = check(settings.as_ref(), store, Terminal::detect(), args.json);
    match output::print(&text) {
        Ok(()) => exit,
        Err(error) => Refusal::cannot_start(format!("cannot write the answer: {error}")).tell(),
    }
}

/// Summarizes both configurations as text or as one JSON object. [`Exit::Ok`] if they are good, else [`Exit::Usage`] (2).
///
/// `settings` are the settings or all their problems; `store` is the store or all its problems, or `None` where it was not
/// looked at because the settings do not say where it is. `terminal` decides about colours and lines.
pub fn check(
    settings: Result<&Settings, &settings::Problems>,
    store: Option<Result<&Store, &Problems>>,
    terminal: Terminal,
    json: bool,
) -> (String, Exit) {
    let report = report(settings, store);
    let exit = if report.ok { Exit::Ok } else { Exit::Usage };
    let text = if json { serde_json::to_string_pretty(&report).unwrap_or_default() } else { report.text(terminal) };
    (text, exit)
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    /// `section.key` and its value, without credentials.
    settings: Option<BTreeMap<String, String>>,
    store: Option<StoreReport>,
    errors: Vec<String>,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// The problems of the store once more, in parts, for editors and pipelines.
    store_problems: Vec<ProblemReport>,
}

#[derive(Debug, Serialize)]
struct ProblemReport {
    severity: &'static str,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    path: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct StoreReport {
    revision: String,
    organizations: usize,
    campaigns: usize,
    overrides: usize,
    targets: usize,
    disabled: usize,
    default_organization: Option<String>,
    /// How many enabled targets select each event.
    targets_by_event: BTreeMap<&'static str, usize>,
    scopes: Vec<ScopeReport>,
}

#[derive(Debug, Serialize)]
struct ScopeReport {
    key: String,
    enabled: bool,
    /// Scheme, host and port only: tokens travel in the rest.
    url: Option<String>,
    events: Vec<&'static str>,
    retry_attempts: Option<u32>,
    timeout_seconds: Option<u64>,
    signed: bool,
    headers: usize,
}

fn report(settings: Result<&Settings, &settings::Problems>, store: Option<Result<&Store, &Problems>>) -> Report {
    let mut errors: Vec<String> = match settings {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    };
    let mut warnings = Vec::new();
    let problems = match store {
        None => None,
        Some(Ok(store)) => Some(store.warnings()),
        Some(Err(problems)) => Some(problems),
    };
    for problem in problems.into_iter().flatten() {
        match problem.severity {
            Severity::Error => errors.push(problem.to_string()),
            Severity::Warning => warnings.push(problem.to_string()),
        }
    }
    let good = store.and_then(Result::ok);
    if let (Ok(settings), Some(store)) = (settings, good) {
        warnings.extend(objections(settings, store).map(|(key, text)| format!("{key}: the URL {text}")));
    }
    if let (Ok(settings), Some(longest)) = (settings, good.and_then(Store::longest_timeout)) {
        // Each is good by itself, but they do not fit.
        errors.extend(settings::check_against_store(settings, longest).map(|problem| problem.to_string()));
    }
    Report {
        ok: errors.is_empty(),
        settings: settings.ok().map(settings_report),
        store: good.map(store_report),
        errors,
        warnings,
        notes: good.map(notes).unwrap_or_default(),
        store_problems: problems.into_iter().flatten().map(problem_report).collect(),
    }
}

fn settings_report(settings: &Settings) -> BTreeMap<String, String> {
    let lines = settings.describe();
    let pairs = lines.iter().filter_map(|line| line.split_once(" = "));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn store_report(store: &Store) -> StoreReport {
    let campaigns = store.organizations().flat_map(|organization| organization.campaigns.iter());
    let overrides = campaigns.filter(|campaign| matches!(campaign.rule, CampaignRule::Override { .. })).count();
    let selecting = |kind| store.webhooks().filter(|webhook| webhook.enabled && webhook.events.contains(kind)).count();
    StoreReport {
        revision: store.revision().to_owned(),
        organizations: store.organizations().count(),
        campaigns: store.campaign_count(),
        overrides,
        targets: store.webhooks().count(),
        disabled: store.webhooks().filter(|webhook| !webhook.enabled).count(),
        default_organization: store.default_organization().map(str::to_owned),
        targets_by_event: EventKind::ALL.into_iter().map(|kind| (kind.name(), selecting(kind))).collect(),
        scopes: store
            .webhooks()
            .map(|webhook| {
                let target = webhook.target.as_deref();
                ScopeReport {
                    key: webhook.key.to_string(),
                    enabled: webhook.enabled,
                    url: target.map(|target| target.origin()),
                    events: webhook.events.iter().map(EventKind::name).collect(),
                    retry_attempts: target.map(|target| target.retry_attempts),
                    timeout_seconds: target.map(|target| target.timeout.as_secs()),
                    signed: target.is_some_and(|target| !target.signing_secrets.is_empty()),
                    headers: target.map_or(0, |target| target.headers.len()),
                }
            })
            .collect(),
    }
}

/// The targets in use whose jobs are bound to fail, as far as can be seen without asking a name server.
pub fn objections<'s>(settings: &'s Settings, store: &'s Store) -> impl Iterator<Item = (&'s TargetKey, String)> {
    let in_use = store.webhooks().filter(|webhook| webhook.enabled);
    in_use.filter_map(|webhook| {
        let target = webhook.target.as_deref()?;
        egress::objection(&settings.egress, &target.organization, &target.url).map(|text| (&webhook.key, text))
    })
}

/// Where an organization's target still applies beside an override.
fn notes(store: &Store) -> Vec<String> {
    let places = store.organizations().flat_map(|organization| {
        organization.campaigns.iter().map(move |campaign| Placed { organization, campaign: Some(campaign) })
    });
    places.filter_map(|placed| left_note(&placed)).collect()
}

fn problem_report(problem: &Problem) -> ProblemReport {
    ProblemReport {
        severity: problem.severity.name(),
        file: problem.place.as_ref().map(|place| place.file.to_string()),
        line: problem.place.as_ref().map(|place| place.line),
        column: problem.place.as_ref().map(|place| place.column),
        path: problem.path.clone(),
        text: problem.text.clone(),
    }
}

impl Report {
    fn text(&self, terminal: Terminal) -> String {
        let mut text = String::new();
        if let Some(settings) = &self.settings {
            heading(&mut text, terminal, "settings");
            let width = settings.keys().map(String::len).max().unwrap_or(0);
            for (key, value) in settings {
                line(&mut text, &format!("  {key:width$}  {value}"));
            }
            text.push('\n');
        }
        if let Some(store) = &self.store {
            store.write(&mut text, terminal);
        }
        section(&mut text, terminal, "notes", &self.notes);
        section(&mut text, terminal, "warnings", &self.warnings);
        section(&mut text, terminal, "errors", &self.errors);
        text.push_str(&match (self.ok, self.store.is_some()) {
            (true, true) => terminal.paint(Tone::Good, "the configuration is good"),
            (true, false) => "the settings are good; the webhook store was not looked at".to_owned(),
            (false, false) if self.store_problems.is_empty() => {
                terminal.paint(Tone::Bad, "the configuration cannot be used; the webhook store was not looked at")
            }
            (false, _) => terminal.paint(Tone::Bad, "the configuration cannot be used"),
        });
        text
    }
}

impl StoreReport {
    fn write(&self, text: &mut String, terminal: Terminal) {
        heading(text, terminal, &format!("webhook store, revision {}", self.revision));
        let counts = [
            counted(self.organizations, "organization", "organizations"),
            counted(self.campaigns, "listed campaign", "listed campaigns"),
            counted(self.overrides, "override", "overrides"),
            counted(self.targets, "target", "targets"),
            format!("{} disabled", self.disabled),
        ];
        line(text, &format!("  {}", counts.join(", ")));
        if let Some(id) = &self.default_organization {
            line(text, &format!("  campaigns that are not listed belong to {id}, where the message names none"));
        }
        text.push('\n');
        let headings = ["target", "url", "events (lead.)", "retries", "timeout", "signed", "headers"];
        let mut table = Table::new(terminal, &headings);
        for scope in &self.scopes {
            table.row(scope.cells());
        }
        line(text, &table.to_string());
        text.push('\n');
        heading(text, terminal, "targets by event");
        let width = EventKind::ALL.map(|kind| kind.name().len()).into_iter().max().unwrap_or(0);
        for kind in EventKind::ALL {
            let count = self.targets_by_event.get(kind.name()).copied().unwrap_or(0);
            line(text, &format!("  {:width$}  {count}", kind.name()));
        }
        text.push('\n');
    }
}

impl ScopeReport {
    fn cells(&self) -> [Cell; 7] {
        let key = match self.enabled {
            true => Cell::text(&self.key),
            false => Cell::text(format!("{} (disabled)", self.key)).tone(Tone::Quiet),
        };
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            key,
            Cell::text(or_dash(self.url.clone())),
            Cell::text(self.events_in_short()),
            Cell::number(or_dash(self.retry_attempts.map(|retries| retries.to_string()))),
            Cell::number(or_dash(self.timeout_seconds.map(|seconds| format!("{seconds} s")))),
            Cell::text(if self.signed { "yes" } else { "no" }),
            Cell::number(self.headers),
        ]
    }

    fn events_in_short(&self) -> String {
        match self.events.len() {
            0 => "-".to_owned(),
            all if all == EventKind::ALL.len() => "all".to_owned(),
            _ => {
                let names: Vec<_> = self.events.iter().map(|name| name.trim_start_matches("lead.")).collect();
                names.join(", ")
            }
        }
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn section(text: &mut String, terminal: Terminal, title: &str, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    heading(text, terminal, title);
    for entry in entries {
        line(text, &format!("  {entry}"));
    }
    text.push('\n');
}

fn heading(text: &mut String, terminal: Terminal, title: &str) {
    line(text, &terminal.paint(Tone::Strong, title));
}

/// A line without blanks at its end. Writing to a string cannot fail.
fn line(text: &mut String, content: &str) {
    let _ = writeln!(text, "{}", content.trim_end());
}

#[cfg(test)]
mod tests;
