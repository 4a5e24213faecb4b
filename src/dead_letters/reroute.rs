//! Decides where a failed job goes when its target is looked up again: the store may send its campaign elsewhere now.
//!
//! Pure: one revision of the store and the job decide. The job stays within its organization, whatever the store says
//! (docs/explanation/security.md). When a campaign moves to another organization, its failed jobs stay with the old
//! one.

use std::collections::{BTreeMap, BTreeSet};

use super::{record::Record, selection::Selection};
use crate::{
    job::Job,
    store::{Misplaced, NoTarget, Resolution, Store, TargetKey},
};

/// Why a job has no target now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// The store has no target for such an event now.
    NoTarget(NoTarget),
    /// The campaign is not in the store, or belongs to another organization.
    Misplaced(Misplaced),
    /// No target has the name of the old one, and it is unclear which of the others to use.
    Unclear,
}

/// The word for a job whose new target is unclear.
pub const UNCLEAR: &str = "unclear_target";

/// The word for a job that is left because another failed job takes the same event to the same target.
pub const THERE: &str = "goes_there_already";

impl Nowhere {
    /// Returns the word in `--json`. A reason from the store has the same word in metrics and in `leadhook explain`.
    pub fn name(self) -> &'static str {
        match self {
            Nowhere::NoTarget(reason) => reason.name(),
            Nowhere::Misplaced(misplaced) => misplaced.name(),
            Nowhere::Unclear => UNCLEAR,
        }
    }
}

/// The route of a job that gets another target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The old target.
    pub from: TargetKey,
    /// The new target.
    pub to: TargetKey,
    /// The job's `webhook-id` at the new target.
    pub id: String,
}

/// The new targets of the jobs on the queue, looked up before anything is done. People see them before they agree, and
/// the replay uses exactly these.
#[derive(Debug, Default)]
pub struct Routes {
    routes: BTreeMap<String, Route>,
    nowhere: BTreeMap<String, Nowhere>,
    /// The ids of all jobs on the queue.
    own: BTreeSet<String>,
}

impl Routes {
    /// Looks up the target of the next record of the queue.
    pub fn see(&mut self, store: &Store, record: &Record) {
        let Ok(job) = &record.content else { return };
        self.own.insert(job.webhook_id.clone());
        match target(store, job) {
            Ok(to) if to == job.target => {}
            Ok(to) => {
                let route = Route { from: job.target.clone(), id: job.redirected(&to).webhook_id, to };
                self.routes.insert(job.webhook_id.clone(), route);
            }
            Err(nowhere) => drop(self.nowhere.insert(job.webhook_id.clone(), nowhere)),
        }
    }

    /// Removes from the selection the jobs without a target. Returns how many, by reason.
    pub fn exclude_without_target(&self, selection: &mut Selection) -> BTreeMap<&'static str, u64> {
        let mut excluded = BTreeMap::new();
        selection.chosen.retain(|id, _| {
            let nowhere = self.nowhere.get(id);
            nowhere.inspect(|nowhere| *excluded.entry(nowhere.name()).or_default() += 1).is_none()
        });
        excluded
    }

    /// Removes from the selection the jobs that would go to one target twice. Returns how many. Call it last, so that a
    /// job that was excluded for another reason does not block one that goes to the same target.
    pub fn exclude_duplicates(&self, selection: &mut Selection) -> u64 {
        let (mut taken, mut excluded) = (BTreeSet::new(), 0);
        selection.chosen.retain(|id, _| {
            let once = |route: &Route| !self.own.contains(&route.id) && taken.insert(route.id.clone());
            let goes = self.routes.get(id).is_none_or(once);
            excluded += u64::from(!goes);
            goes
        });
        excluded
    }

    /// Returns where the job of this id goes, if it leaves its target.
    pub fn of(&self, id: &str) -> Option<&Route> {
        self.routes.get(id)
    }
}

/// Returns the target that a job's event would go to now: its own if the event still goes there, else the one of the
/// same name, else the only one. A named target never stands in for one with another name, because it has its own job.
///
/// # Errors
/// No target exists, or it is unclear which one to use.
fn target(store: &Store, job: &Job) -> Result<TargetKey, Nowhere> {
    let targets = match store.resolve(&job.campaign, Some(&job.organization), job.kind) {
        Resolution::Targets(targets) => targets,
        Resolution::NoTarget(reason) => return Err(Nowhere::NoTarget(reason)),
        Resolution::Misplaced(misplaced) => return Err(Nowhere::Misplaced(misplaced)),
    };
    let keys = || targets.iter().map(|target| &target.key);
    let same = keys().find(|key| **key == job.target);
    let named = job.target.name();
    let namesake = || named.and_then(|name| keys().find(|key| key.name() == Some(name)));
    let only = || keys().next().filter(|key| targets.len() == 1 && (named.is_none() || key.name().is_none()));
    same.or_else(namesake).or_else(only).cloned().ok_or(Nowhere::Unclear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dead_letters::{
            filter::Filter,
            given_ids::GivenIds,
            record::{Reason, tests::job},
            selection::{Choice, Selector},
        },
        event::EventKind,
        settings::Secrets,
        store,
    };

    fn loaded(store: &str) -> Store {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), store).unwrap();
        let secrets = Secrets { environment_prefix: "LEADHOOK_SECRET_".into(), directory: None };
        store::load(file.path(), &secrets).unwrap()
    }

    fn failed(campaign: &str, key: &str) -> Job {
        Job {
            organization: "acme".into(),
            campaign: campaign.into(),
            kind: EventKind::Delivered,
            ..job().redirected(&TargetKey::parse(key).unwrap())
        }
    }

    fn resolved(store: &str, campaign: &str, key: &str) -> Result<String, &'static str> {
        target(&loaded(store), &failed(campaign, key)).map(|key| key.to_string()).map_err(Nowhere::name)
    }

    const ONE: &str = "
organizations:
  acme:
    webhook: { url: 'https://a.example/', events: [lead.delivered] }
    campaigns:
      OWN: { override: true, webhook: { url: 'https://b.example/' } }
      OFF: { override: true, webhook: { enabled: false } }
      QUEUED: { override: true, unselected_events: drop, webhook: { events: [lead.queued] } }
  globex:
    webhook: { url: 'https://c.example/', events: [lead.delivered] }
    campaigns:
      THEIRS: {}
";

    const SEVERAL: &str = "
organizations:
  acme:
    webhooks:
      - { name: crm, url: 'https://a.example/', events: [lead.delivered] }
      - { name: mail, url: 'https://b.example/', events: [lead.delivered] }
    campaigns:
      OWN:
        override: true
        webhooks:
          - { name: crm, url: 'https://c.example/', events: [lead.delivered] }
          - { name: sms, url: 'https://d.example/', events: [lead.delivered] }
";

    const NAMED: &str = "
organizations:
  acme:
    webhooks:
      - { name: mail, url: 'https://b.example/', events: [lead.delivered] }
";

    #[test]
    fn its_own_target_or_the_only_one_or_its_namesake() {
        assert_eq!(resolved(ONE, "ABC", "acme").as_deref(), Ok("acme"));
        assert_eq!(resolved(ONE, "OWN", "acme").as_deref(), Ok("acme/OWN"));
        assert_eq!(resolved(ONE, "ABC", "acme/ABC").as_deref(), Ok("acme"));
        assert_eq!(resolved(ONE, "ABC", "acme#crm").as_deref(), Ok("acme"));
        assert_eq!(resolved(SEVERAL, "ABC", "acme#mail").as_deref(), Ok("acme#mail"));
        assert_eq!(resolved(SEVERAL, "OWN", "acme#crm").as_deref(), Ok("acme/OWN#crm"));
    }

    #[test]
    fn or_it_is_said_why_there_is_none() {
        assert_eq!(resolved(ONE, "OFF", "acme/OFF"), Err("campaign_disabled"));
        assert_eq!(resolved(ONE, "QUEUED", "acme/QUEUED"), Err("event_not_selected"));
        assert_eq!(resolved(ONE, "THEIRS", "acme"), Err("organization_mismatch"), "never a target of another tenant");
        assert_eq!(
            resolved("organizations: { other: { webhook: { enabled: false } } }", "ABC", "acme"),
            Err("unknown_organization")
        );
        assert_eq!(resolved(SEVERAL, "ABC", "acme"), Err("unclear_target"));
        assert_eq!(resolved(SEVERAL, "OWN", "acme#mail"), Err("unclear_target"));
        assert_eq!(resolved(NAMED, "ABC", "acme#crm"), Err("unclear_target"), "mail has its own job");
        assert_eq!(resolved(NAMED, "ABC", "acme").as_deref(), Ok("acme#mail"));
    }

    /// Returns where the remaining jobs go, and how many were removed, for one event that failed at these targets.
    fn settled(choice: Choice, jobs: &[Job]) -> (Vec<String>, u64) {
        let (store, mut routes, mut selector) = (loaded(ONE), Routes::default(), Selector::new(choice));
        for job in jobs {
            let content = Ok(job.clone());
            let record = Record { content, reason: Reason::Unsaid, detail: None, failed_at: None, deliveries: 0 };
            routes.see(&store, &record);
            selector.add(&record);
        }
        let mut selection = selector.finish();
        let excluded = routes.exclude_duplicates(&mut selection);
        let to = |id: &String| routes.of(id).map_or("its own".to_owned(), |route| route.to.to_string());
        (selection.chosen.keys().map(to).collect(), excluded)
    }

    #[test]
    fn nothing_is_sent_twice_to_one_target() {
        let all = || Choice::Matching(Filter::default());
        let [crm, mail, own] = ["acme#crm", "acme#mail", "acme"].map(|key| failed("ABC", key));
        let of = |to: &str| vec![to.to_owned()];
        assert_eq!(settled(all(), &[crm.clone(), mail.clone()]), (of("acme"), 1), "only one of them goes");
        assert_eq!(settled(all(), &[crm.clone(), own]), (of("its own"), 1), "acme has its own job");
        // Copies of one job count as one.
        assert_eq!(settled(all(), &[crm.clone(), crm.clone()]), (of("acme"), 0));
        for named in [&crm, &mail] {
            let choice = Choice::Named(GivenIds::whole(vec![named.webhook_id.clone()]));
            let jobs = [crm.clone(), mail.clone()];
            assert_eq!(settled(choice, &jobs), (of("acme"), 0), "the named job goes");
        }
    }
}
