//! `leadhook check`: shows all problems of both configurations, and a summary.

mod words;

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    arguments::Output,
    explain::left_note,
    output::{self, Exit, Refusal, after_help},
    readable::counted,
};
use crate::{
    egress::{self, Guard, Objection},
    event::EventKind,
    settings::{self, Settings},
    store::{self, CampaignRule, Placed, Problem, Problems, Severity, Store, TargetKey},
};

/// Check the settings and the webhook store, and print all problems at once
///
/// Problems come first. Without errors the resolved settings and the targets follow. Errors make the configuration unusable.
/// Warnings do not, but some of them mean that deliveries to an enabled target will fail.
#[derive(clap::Args)]
#[command(after_help = after_help(
    "leadhook check\nleadhook check --store webhooks/ --strict\nleadhook check --json",
    "there are warnings, and --strict was given"
))]
pub struct Args {
    /// Count warnings as findings: exit with 1 if there are any
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: Output,
}

/// Loads both configurations and prints the problems and the summary.
///
/// # Errors
/// The configuration has errors, `--strict` finds warnings, or the answer cannot be written.
pub fn run(args: &Args, config: Option<&Path>, store: Option<&Path>) -> Result<Exit, Refusal> {
    let settings = settings::load(config, store, settings::environment());
    let place = match &settings {
        Ok(settings) => Some((settings.store.path.clone(), settings.secrets.clone())),
        Err(_) => settings::store_alone(config, store, settings::environment()),
    };
    let store = place.map(|(path, secrets)| store::load(&path, &secrets));
    let store = store.as_ref().map(Result::as_ref);
    let report = report(settings.as_ref(), store, args.strict, Timestamp::now());
    let told = match args.output.json {
        true => output::print_json(&report),
        false => output::print(report.text(args.output.terminal())),
    };
    told.map_err(|error| Refusal::unwritable(&error))?;
    match report.exit() {
        Exit::Ok => Ok(Exit::Ok),
        Exit::Findings => Err(Refusal::findings(
            format!("--strict does not allow warnings: {}", report.verdict()),
            "correct what the warnings name, or leave out --strict",
        )),
        exit => {
            let help = "correct the errors above, then run `leadhook check` again".to_owned();
            Err(Refusal { exit, text: report.verdict(), help })
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// Whether the exit code is 0.
    ok: bool,
    /// `section.key` and its value, without credentials.
    settings: Option<BTreeMap<String, String>>,
    store: Option<StoreReport>,
    /// Enabled targets to which no delivery can succeed.
    failing_targets: usize,
    errors: Vec<String>,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// The problems of the store again, split into fields for editors and pipelines.
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
    /// The number of enabled targets that select each event.
    targets_by_event: BTreeMap<&'static str, usize>,
    scopes: Vec<ScopeReport>,
}

#[derive(Debug, Serialize)]
struct ScopeReport {
    key: String,
    enabled: bool,
    /// Scheme, host and port only, because the rest often holds tokens.
    url: Option<String>,
    events: Vec<&'static str>,
    retry_attempts: Option<u32>,
    timeout_seconds: Option<u64>,
    signed: bool,
    headers: usize,
}

/// Combines both configurations and their problems. Each is either the value or all its problems. `store` is `None` if
/// the settings do not say where it is.
fn report(
    settings: Result<&Settings, &settings::Problems>,
    store: Option<Result<&Store, &Problems>>,
    strict: bool,
    now: Timestamp,
) -> Report {
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
    let before = warnings.len();
    if let (Ok(settings), Some(store)) = (settings, good) {
        warnings.extend(objections(settings, store).map(|(key, text)| format!("target {key}: {text}")));
    }
    let failing_targets = warnings.len() - before;
    warnings.extend(good.into_iter().flat_map(|store| expiring(store, now)));
    if let (Ok(settings), Some(longest)) = (settings, good.and_then(Store::longest_timeout)) {
        // Settings and store can each be valid and still not fit together.
        errors.extend(settings::check_against_store(settings, longest).map(|problem| problem.to_string()));
    }
    Report {
        ok: errors.is_empty() && (warnings.is_empty() || !strict),
        failing_targets,
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

/// Returns the enabled targets whose jobs will fail, with the reason, as far as this is known without a DNS lookup.
pub fn objections<'s>(settings: &'s Settings, store: &'s Store) -> impl Iterator<Item = (&'s TargetKey, String)> {
    let in_use = store.webhooks().filter(|webhook| webhook.enabled);
    in_use.filter_map(|webhook| {
        let target = webhook.target.as_deref()?;
        let rules = &settings.egress;
        let guard = || Guard::new(&rules.allow, &rules.deny, Some(&target.organization));
        let object = |url| egress::objection(rules.plain_http, guard, url);
        let of_url = object(&target.url).map(|objection| format!("the URL {objection}"));
        let of_token = || {
            let objection = object(&target.oauth2.as_ref()?.token_url)?;
            Some(format!("oauth2.token_url {}", Objection { reason: "oauth", ..objection }))
        };
        of_url.or_else(of_token).map(|text| (&webhook.key, text))
    })
}

/// How long before its expiry a certificate causes a warning.
const SOON: Duration = Duration::from_secs(30 * 86_400);

/// Returns warnings about certificates of enabled targets that have expired or soon will. A certificate that several
/// targets share is named once.
fn expiring(store: &Store, now: Timestamp) -> Vec<String> {
    let (mut seen, mut warnings) = (HashSet::new(), Vec::new());
    for webhook in store.webhooks().filter(|webhook| webhook.enabled) {
        let Some(target) = webhook.target.as_deref() else { continue };
        let client = target.client_certificate.as_ref().map(|it| ("client_certificate", it.fingerprint(), it.expiry()));
        let authority = target.ca_certificate.as_ref().map(|it| ("ca_certificate", it.fingerprint(), it.expiry()));
        for (name, print, expiry) in client.into_iter().chain(authority) {
            let Some(at) = expiry.filter(|_| seen.insert(print)) else { continue };
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            let day = at.strftime("%F");
            if at <= now {
                warnings.push(format!("target {}: {name} expired on {day}; replace it", webhook.key));
            } else if left <= SOON {
                let days = counted(left.as_secs() / 86_400, "day", "days");
                warnings.push(format!("target {}: {name} expires on {day}, in {days}; replace it", webhook.key));
            }
        }
    }
    warnings
}

/// Returns notes about organizations' targets that still apply beside an override.
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

#[cfg(test)]
mod tests;
