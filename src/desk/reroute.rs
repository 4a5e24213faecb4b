//! Where a failed job goes when its target is looked up anew: the store may send its campaign elsewhere by now.
//!
//! Pure: one revision of the store and the job decide. It stays within the job's organization, whatever the store says
//! (DESIGN.md, 3): a campaign that moved takes no waiting lead along.

use crate::{
    job::Job,
    store::{Misplaced, NoTarget, Resolution, Store, TargetKey},
};

/// Why a job cannot go anywhere now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nowhere {
    /// Nobody wants such an event now.
    NoTarget(&'static str),
    /// The campaign is not in the store, or another organization's.
    Misplaced(&'static str),
    /// None has the name of the old one, and it cannot be told which of the others it should be.
    Unclear,
    /// The same event goes to the same target already, as another job of this queue.
    There,
}

impl Nowhere {
    /// The word in `--json`; the same as in metrics and in `leadhook explain`.
    pub fn name(self) -> &'static str {
        match self {
            Nowhere::NoTarget(name) | Nowhere::Misplaced(name) => name,
            Nowhere::Unclear => "unclear_target",
            Nowhere::There => "goes_there_already",
        }
    }
}

/// The target that a job's event would go to now: its own, if that is among them, else the one of the same name, else the only
/// one. Of two that have names, one is never taken for the other: that has a job of its own.
///
/// # Errors
/// There is none, or it cannot be told which.
pub fn target(store: &Store, job: &Job) -> Result<TargetKey, Nowhere> {
    let targets = match store.resolve(&job.campaign, Some(&job.organization), job.kind) {
        Resolution::Targets(targets) => targets,
        Resolution::NoTarget(reason) => return Err(nobody(reason)),
        Resolution::Misplaced(misplaced) => return Err(elsewhere(misplaced)),
    };
    let keys = || targets.iter().map(|target| &target.key);
    let same = keys().find(|key| **key == job.target);
    let named = job.target.name();
    let namesake = || named.and_then(|name| keys().find(|key| key.name() == Some(name)));
    let only = || keys().next().filter(|key| targets.len() == 1 && (named.is_none() || key.name().is_none()));
    same.or_else(namesake).or_else(only).cloned().ok_or(Nowhere::Unclear)
}

/// The same, if there is a store to look into, and if it is another than the job's own.
///
/// # Errors
/// As [`target`].
pub fn other(store: Option<&Store>, job: &Job) -> Result<Option<TargetKey>, Nowhere> {
    let found = store.map(|store| target(store, job)).transpose()?;
    Ok(found.filter(|found| *found != job.target))
}

fn nobody(reason: NoTarget) -> Nowhere {
    Nowhere::NoTarget(reason.name())
}

fn elsewhere(misplaced: Misplaced) -> Nowhere {
    Nowhere::Misplaced(misplaced.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{desk::record::tests::job, event::EventKind, settings::Secrets, store};

    fn resolved(store: &str, campaign: &str, key: &str) -> Result<String, &'static str> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), store).unwrap();
        let store =
            store::load(file.path(), &Secrets { environment_prefix: "LEADHOOK_SECRET_".into(), directory: None })
                .unwrap();
        let key = TargetKey::parse(key).unwrap();
        let job = Job {
            organization: "acme".into(),
            campaign: campaign.into(),
            kind: EventKind::Delivered,
            target: key,
            ..job()
        };
        target(&store, &job).map(|key| key.to_string()).map_err(Nowhere::name)
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
}
