//! The webhook store: any text becomes a consistent store, or problems that each name their place, in bounded time. The
//! content of a secret file is shown nowhere.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use leadhook::{
    event::EventKind,
    settings,
    store::{
        Campaign, CampaignRule, Misplaced, Organization, Problem, Problems, Resolution, Severity, Store, Target,
        TargetKey, TargetState, ValueSource, Webhook, load,
    },
};
use tempfile::TempDir;

use super::event::is_id;

/// The content of the secret file `token`.
pub const CANARY: &str = "c4n4ry-0f-a-s3cret-f1le!";

/// The content of the secret file `signing`: the canary again, so that it is as easy to find.
pub const SIGNING: &str = "whsec_YzRuNHJ5LTBmLWEtczNjcmV0LWYxbGUh";

/// Limit of processor time. It is far above the time for a store of some MiB in a debug build, and far below a hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks the text of a store, read as YAML and as TOML.
pub fn input(input: &[u8]) -> &'static str {
    match (check(input, "yaml"), check(input, "toml")) {
        (Ok(_), Ok(_)) => "both",
        (Ok(_), Err(_)) => "yaml",
        (Err(_), Ok(_)) => "toml",
        (Err(_), Err(_)) => "refused",
    }
}

thread_local! {
    /// One directory for each thread, because creating one for each input takes longer than reading the input.
    static WORLD: World = World::new();
}

/// The directory of a store and its secret files.
struct World {
    directory: TempDir,
    settings: settings::Secrets,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let secrets = directory.path().join("secrets");
        fs::create_dir(&secrets).expect("a directory");
        fs::write(secrets.join("token"), CANARY).expect("a file");
        fs::write(secrets.join("signing"), SIGNING).expect("a file");
        // No variable begins with this prefix, so the environment of the tests has no effect.
        let environment_prefix = "NONE_SUCH_".to_owned();
        World { directory, settings: settings::Secrets { environment_prefix, directory: Some(secrets) } }
    }
}

/// Checks every rule of one file of that format.
pub fn check(text: &[u8], format: &str) -> Result<Store, Problems> {
    WORLD.with(|world| check_in(world, text, format))
}

fn check_in(world: &World, text: &[u8], format: &str) -> Result<Store, Problems> {
    let file = world.directory.path().join(format!("store.{format}"));
    fs::write(&file, text).expect("a file");
    let begun = Stopwatch::start();
    let loaded = load(&file, &world.settings);
    let spent = begun.spent();
    assert!(spent < PATIENCE, "{spent:?} for {} bytes", text.len());
    let (name, extent) = (file.display().to_string(), Extent::of(text));
    match &loaded {
        Ok(store) => {
            assert!(!store.warnings().has_errors());
            store.warnings().iter().for_each(|problem| is_well_said(problem, &name, &extent));
            holds_together(store);
            shows_no_secret(&shown(store), text);
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused without an error");
            problems.iter().for_each(|problem| is_well_said(problem, &name, &extent));
            assert!(super::is_one_plain_line(&problems.summary()), "{:?}", problems.summary());
            shows_no_secret(&format!("{problems} {problems:?}"), text);
        }
    }
    loaded
}

/// Measures the processor time of this thread on Linux, so that a busy machine does not count. Elsewhere it measures
/// elapsed time.
struct Stopwatch(Instant, Option<Duration>);

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch(Instant::now(), Stopwatch::on_processor())
    }

    fn spent(&self) -> Duration {
        match (self.1, Stopwatch::on_processor()) {
            (Some(begun), Some(now)) => now.saturating_sub(begun),
            _ => self.0.elapsed(),
        }
    }

    fn on_processor() -> Option<Duration> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    }
}

/// The number of lines of a text, and the number of characters of its longest line. A lone carriage return ends a line
/// in YAML, but not in TOML.
struct Extent {
    lines: usize,
    longest: usize,
}

impl Extent {
    fn of(text: &[u8]) -> Extent {
        let text = String::from_utf8_lossy(text);
        let longest = text.split('\n').map(|line| line.chars().count()).max();
        Extent { lines: text.split(['\n', '\r']).count(), longest: longest.unwrap_or(0) }
    }
}

/// Checks that file, line and column exist, that the message is one line, and that a warning refuses nothing.
fn is_well_said(problem: &Problem, file: &str, extent: &Extent) {
    let said = problem.to_string();
    assert!(super::is_one_plain_line(&said), "{said:?}");
    assert!(said.starts_with(file), "names no file: {said}");
    let Some(place) = &problem.place else {
        assert_eq!(problem.severity, Severity::Error);
        assert!(problem.text.contains("holds no organization"), "names no line: {said}");
        return;
    };
    assert_eq!(&*place.file, file);
    assert!((1..=extent.lines).contains(&place.line), "there is no line {}: {said}", place.line);
    assert!((1..=extent.longest + 1).contains(&place.column), "there is no column {}: {said}", place.column);
}

fn shows_no_secret(shown: &str, text: &[u8]) {
    if text.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()) {
        return;
    }
    assert!(!shown.contains(CANARY) && !shown.contains(&SIGNING[6..]), "shows what a secret file holds");
}

/// Returns everything of a store that can be printed.
pub fn shown(store: &Store) -> String {
    let mut shown = format!("{store:?} {} {:?}", store.warnings(), store.warnings());
    for organization in store.organizations() {
        shown.push_str(&format!("{organization:?}"));
    }
    for webhook in store.webhooks() {
        shown.push_str(&format!("{webhook:?} {:?}", webhook.target));
        if let Some(target) = &webhook.target {
            shown.push_str(&format!("{} {:?} {:?}", target.origin(), target.headers, target.signing_secrets));
        }
    }
    shown
}

fn holds_together(store: &Store) {
    let mut campaigns = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for organization in store.organizations() {
        assert!(is_id(&organization.id), "{:?}", organization.id);
        for webhook in &organization.webhooks {
            is_usable(store, organization, None, webhook, &mut keys);
        }
        assert!(organization.campaigns.is_sorted_by(|one, next| one.id < next.id));
        for campaign in &organization.campaigns {
            let id = &campaign.id;
            assert!(is_id(id), "{id:?}");
            assert!(campaigns.insert(id.clone()), "{id} is there twice");
            for webhook in campaign.webhooks() {
                is_usable(store, organization, Some(id), webhook, &mut keys);
            }
            resolves(store, organization, Some(campaign));
        }
        resolves(store, organization, None);
    }
    assert_eq!(store.campaign_count(), campaigns.len());
    assert_eq!(store.webhooks().count(), keys.len());
    assert!(store.organizations().next().is_some(), "a store without organizations");
    assert!(store.longest_timeout().is_none_or(|longest| longest <= Duration::from_secs(120)));
    assert_eq!(store.revision().len(), 12);
    let first = store.organizations().next().map(|organization| &*organization.id);
    assert!(store.default_organization().is_none_or(|id| Some(id) == first && store.organizations().count() == 1));
    for kind in EventKind::ALL {
        let nowhere = store.resolve("(unlisted)", None, kind);
        let default = store.default_organization().is_some();
        assert_eq!(matches!(nowhere, Resolution::Misplaced(Misplaced::UnknownCampaign)), !default);
        let nobody = store.resolve("(unlisted)", Some("(nobody)"), kind);
        assert!(matches!(nobody, Resolution::Misplaced(Misplaced::UnknownOrganization)));
    }
}

fn is_usable(
    store: &Store,
    organization: &Organization,
    campaign: Option<&str>,
    webhook: &Webhook,
    keys: &mut BTreeSet<TargetKey>,
) {
    assert_eq!(TargetKey::parse(webhook.key.as_str()).as_ref(), Some(&webhook.key), "no job could carry this key");
    assert!(keys.insert(webhook.key.clone()), "{} is there twice", webhook.key);
    let state = store.target(&organization.id, &webhook.key);
    assert_eq!(matches!(state, TargetState::Active(_)), webhook.enabled, "{}", webhook.key);
    assert_eq!(matches!(state, TargetState::Disabled), !webhook.enabled, "{}", webhook.key);
    assert!(matches!(store.target("(nobody)", &webhook.key), TargetState::Moved));
    assert!(!webhook.enabled || (webhook.target.is_some() && !webhook.events.is_empty()), "{}", webhook.key);
    if campaign.is_some() && webhook.origins.url == ValueSource::Campaign {
        // URL, headers and secrets go together: no header or secret of the organization goes to another host.
        let of_headers = webhook.origins.headers.iter().map(|(_, origin)| *origin);
        let own = &webhook.origins;
        let mut origins =
            of_headers.chain([own.signing_secrets, own.client_certificate, own.ca_certificate, own.oauth2]);
        assert!(origins.all(|origin| origin != ValueSource::Organization), "{} lends credentials", webhook.key);
    }
    let Some(target) = &webhook.target else { return };
    assert_eq!((&target.key, &target.organization), (&webhook.key, &organization.id));
    is_safe(target);
}

/// Checks the values that a store may set for a target (docs/reference/webhook-store.md).
fn is_safe(target: &Target) {
    assert!((1..=10).contains(&target.retry_attempts) && (1..=120).contains(&target.timeout.as_secs()));
    assert!(matches!(target.url.scheme(), "http" | "https") && target.url.has_host() && target.url.port() != Some(0));
    assert!(target.url.username().is_empty() && target.url.password().is_none() && target.url.fragment().is_none());
    assert!(target.signing_secrets.iter().all(|secret| (24..=64).contains(&secret.bytes().len())));
    for (name, value) in &target.headers {
        let name = name.as_str();
        let family = ["content-", "leadhook-", "proxy-", "webhook-"].iter().any(|family| name.starts_with(family));
        let family = family && !(name == "content-type" && leadhook::delivery::request::is_json_in_utf8(value));
        let hop = ["connection", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
        assert!(!family && !hop.contains(&name) && name != "traceparent", "{name} is reserved");
        assert!(value.is_sensitive(), "{name} may be logged");
        assert!(value.to_str().is_ok_and(|text| text.trim() == text), "{name} is not plain text");
    }
}

/// Checks that events of a campaign, listed or not, resolve to targets of its own organization, or to a reason.
fn resolves(store: &Store, organization: &Organization, campaign: Option<&Campaign>) {
    let id = campaign.map_or("(unlisted)", |campaign| &*campaign.id);
    let placed = store.place(id, Some(&organization.id)).expect("it is in the store");
    assert_eq!((&placed.organization.id, placed.campaign.is_some()), (&organization.id, campaign.is_some()));
    if campaign.is_some() {
        let elsewhere = store.place(id, Some("(nobody)")).map(|placed| placed.organization.id.clone());
        assert_eq!(elsewhere, Err(Misplaced::OrganizationMismatch));
    }
    let (left, lenders) = placed.left_events();
    assert_eq!(left.is_empty(), lenders.is_empty());
    for kind in EventKind::ALL {
        let keys = |said: Option<&str>| match store.resolve(id, said, kind) {
            Resolution::Targets(targets) => {
                assert!(!targets.is_empty());
                assert!(targets.iter().all(|target| target.organization == organization.id), "another tenant's target");
                let active = |target: &Target| store.target(&organization.id, &target.key);
                assert!(targets.iter().all(|target| matches!(active(target), TargetState::Active(_))));
                Some(targets.iter().map(|target| target.key.clone()).collect::<BTreeSet<_>>())
            }
            Resolution::NoTarget(_) => None,
            Resolution::Misplaced(misplaced) => panic!("{id}: {misplaced:?}"),
        };
        let found = keys(Some(&organization.id));
        if campaign.is_some() {
            assert_eq!(keys(None), found, "a listed campaign needs no organization");
        }
        let wanted = match campaign.map(|campaign| &campaign.rule) {
            None | Some(CampaignRule::Inherit) => selected(&organization.webhooks, kind),
            Some(CampaignRule::Override { webhooks, .. }) => {
                let own = selected(webhooks, kind);
                if own.is_none() && left.contains(kind) { selected(&organization.webhooks, kind) } else { own }
            }
        };
        assert_eq!(found, wanted, "{id} {kind}");
    }
}

fn selected(webhooks: &[Webhook], kind: EventKind) -> Option<BTreeSet<TargetKey>> {
    let selecting = webhooks.iter().filter(|webhook| webhook.enabled && webhook.events.contains(kind));
    let keys: BTreeSet<_> = selecting.map(|webhook| webhook.key.clone()).collect();
    (!keys.is_empty()).then_some(keys)
}
