//! Where a failed job goes when its target is looked up anew: the store may send its campaign elsewhere by now.
//!
//! Pure: one revision of the store and the job decide. It stays within the job's organization, whatever the store says
//! (docs/explanation/security.md): a campaign that moved takes no waiting lead along.

use std::collections::{BTreeMap, BTreeSet};

use super::{record::Record, survey::Survey};
use crate::{
    job::Job,
    store::{Misplaced, NoTarget, Resolution, Store, TargetKey},
};

/// Why a job cannot go anywhere now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// Nobody wants such an event now.
    NoTarget(NoTarget),
    /// The campaign is not in the store, or another organization's.
    Misplaced(Misplaced),
    /// None has the name of the old one, and it cannot be told which of the others it should be.
    Unclear,
}

/// The word for a job of which it cannot be told where it should go.
pub const UNCLEAR: &str = "unclear_target";

/// The word for a job whose event another failed job takes to the same target.
pub const THERE: &str = "goes_there_already";

impl Nowhere {
    /// The word in `--json`. What the store says has the word that metrics and `leadhook explain` have for it.
    pub fn name(self) -> &'static str {
        match self {
            Nowhere::NoTarget(reason) => reason.name(),
            Nowhere::Misplaced(misplaced) => misplaced.name(),
            Nowhere::Unclear => UNCLEAR,
        }
    }
}

/// Where a job goes that leaves its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The target that it had.
    pub from: TargetKey,
    /// The target that it gets.
    pub to: TargetKey,
    /// Its `webhook-id` there.
    pub id: String,
}

/// What looking targets up anew comes to, found out by the look before anything is done: people are told before they agree,
/// and what is done is what they were told.
#[derive(Debug, Default)]
pub struct Routes {
    routes: BTreeMap<String, Route>,
    nowhere: BTreeMap<String, Nowhere>,
    /// The ids of all jobs on the queue.
    own: BTreeSet<String>,
}

impl Routes {
    /// Looks at the next record of the queue.
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

    /// Takes out of the survey what has no target now; how many, by reason.
    pub fn leave_homeless(&self, survey: &mut Survey) -> BTreeMap<&'static str, u64> {
        let mut left = BTreeMap::new();
        survey.chosen.retain(|id, _| {
            let nowhere = self.nowhere.get(id);
            nowhere.inspect(|nowhere| *left.entry(nowhere.name()).or_default() += 1).is_none()
        });
        left
    }

    /// Takes out what would be sent to one target twice; how many. To be asked last: what is taken out for another reason takes
    /// nothing there, nor does what nobody means.
    pub fn leave_twice(&self, survey: &mut Survey) -> u64 {
        let (mut taken, mut left) = (BTreeSet::new(), 0);
        survey.chosen.retain(|id, _| {
            let once = |route: &Route| !self.own.contains(&route.id) && taken.insert(route.id.clone());
            let goes = self.routes.get(id).is_none_or(once);
            left += u64::from(!goes);
            goes
        });
        left
    }

    /// Where the job of this id goes, if it leaves its target.
    pub fn of(&self, id: &str) -> Option<&Route> {
        self.routes.get(id)
    }
}

/// The target that a job's event would go to now: its own, if that is among them, else the one of the same name, else the only
/// one. Of two that have names, one is never taken for the other: that has a job of its own.
///
/// # Errors
/// There is none, or it cannot be told which.
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
        desk::{
            filter::Filter,
            record::{Reason, tests::job},
            selection::Selection,
            survey::{Choice, Surveyor},
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
        assert_eq!(resolved(ONE, "THEIRS", "acme"), Err("organization_mismatch"), "never another tenant's");
        assert_eq!(
            resolved("organizations: { other: { webhook: { enabled: false } } }", "ABC", "acme"),
            Err("unknown_organization")
        );
        assert_eq!(resolved(SEVERAL, "ABC", "acme"), Err("unclear_target"));
        assert_eq!(resolved(SEVERAL, "OWN", "acme#mail"), Err("unclear_target"));
        assert_eq!(resolved(NAMED, "ABC", "acme#crm"), Err("unclear_target"), "mail has a job of its own");
        assert_eq!(resolved(NAMED, "ABC", "acme").as_deref(), Ok("acme#mail"));
    }

    /// What is left of a choice, and what was taken out, of one event that failed at these targets.
    fn settled(choice: Choice, jobs: &[Job]) -> (Vec<String>, u64) {
        let (store, mut routes, mut surveyor) = (loaded(ONE), Routes::default(), Surveyor::new(choice));
        for job in jobs {
            let content = Ok(job.clone());
            let record = Record { content, reason: Reason::Unsaid, detail: None, failed_at: None, deliveries: 0 };
            routes.see(&store, &record);
            surveyor.add(&record);
        }
        let mut survey = surveyor.finish();
        let left = routes.leave_twice(&mut survey);
        let to = |id: &String| routes.of(id).map_or("its own".to_owned(), |route| route.to.to_string());
        (survey.chosen.keys().map(to).collect(), left)
    }

    #[test]
    fn nothing_is_sent_twice_to_one_target() {
        let all = || Choice::Matching(Filter::default());
        let [crm, mail, own] = ["acme#crm", "acme#mail", "acme"].map(|key| failed("ABC", key));
        let of = |to: &str| vec![to.to_owned()];
        assert_eq!(settled(all(), &[crm.clone(), mail.clone()]), (of("acme"), 1), "one of the two");
        assert_eq!(settled(all(), &[crm.clone(), own]), (of("its own"), 1), "which has a job of its own");
        // Copies of one job are one.
        assert_eq!(settled(all(), &[crm.clone(), crm.clone()]), (of("acme"), 0));
        for named in [&crm, &mail] {
            let choice = Choice::Named(Selection::whole(vec![named.webhook_id.clone()]));
            let jobs = [crm.clone(), mail.clone()];
            assert_eq!(settled(choice, &jobs), (of("acme"), 0), "whichever is named");
        }
    }
}
