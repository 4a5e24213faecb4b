//! Predicts which events the worker will reject, with the worker's own code and the local webhook store.

use crate::{
    cli::{explain::why_misplaced, output, sample::Samples},
    event::Event,
    settings::Settings,
    store::{self, Store},
};

/// The rules for events.
pub(super) struct Judge {
    max_event_bytes: usize,
    /// `None` if it cannot be read. In that case only the worker's store decides.
    store: Option<Store>,
}

impl Judge {
    /// Reads the webhook store. If that fails, prints a note, and campaigns are not looked up.
    pub(super) fn new(settings: &Settings) -> Judge {
        let store = store::load(&settings.store.path, &settings.secrets).ok();
        if store.is_none() {
            let path = settings.store.path.display();
            output::note(&format!("the webhook store cannot be read, so campaigns are not looked up: {path}"));
        }
        Judge { max_event_bytes: settings.delivery.max_event_bytes, store }
    }

    /// Returns why the worker will reject an event, if it will.
    pub(super) fn warning(&self, place: &str, body: &[u8]) -> Option<String> {
        let (reason, why) = match Event::decode(body, None, self.max_event_bytes) {
            Err(rejection) => (rejection.reason.label(), rejection.detail),
            Ok(event) => {
                let placed = self.store.as_ref()?.place(&event.campaign, event.organization.as_deref());
                let misplaced = placed.err()?;
                (misplaced.name(), format!("campaign {}: {}", event.campaign, why_misplaced(misplaced)))
            }
        };
        Some(format!("the worker will reject this event as {reason}: {place}: {}", output::printable(&why)))
    }

    /// Does the same for made-up events. One event of each campaign represents all its events.
    pub(super) fn warnings_of_samples(
        &self,
        campaigns: &[String],
        organization: Option<&str>,
        total: u64,
    ) -> Vec<String> {
        let campaigns = if campaigns.is_empty() { vec!["ABC".to_owned()] } else { campaigns.to_vec() };
        let warning = |campaign: String| {
            let sample = Samples::new(Some(0), vec![campaign], organization.map(str::to_owned), jiff::Timestamp::now())
                .next()?;
            self.warning("made-up events", sample.body.as_bytes())
        };
        if total == 0 { Vec::new() } else { campaigns.into_iter().filter_map(warning).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, campaign: &str, more: &str) -> String {
        format!(
            "{{\"event\":\"{event}\",\"leadId\":\"l\",\"submissionId\":\"s\",\"campaignId\":\"{campaign}\",\"status\":\"x\",\
             \"timestamp\":\"2024-06-15T10:30:00Z\",\"data\":{{}}{more}}}"
        )
    }

    #[test]
    fn each_event_that_will_be_rejected_is_named_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.yaml");
        let yaml = "organizations:\n  acme:\n    webhook: { url: 'https://a.example', events: '*' }\n    campaigns: { ABC: {} }\n";
        std::fs::write(&path, yaml).unwrap();
        let secrets = crate::settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
        let judge = Judge { max_event_bytes: 300, store: store::load(&path, &secrets).ok() };
        let good = event("lead.failed", "ABC", "");
        assert_eq!(judge.warning("f.json", good.as_bytes()), None);
        for (body, reason) in [
            ("{".to_owned(), "not_json"),
            ("{\"event\":\"lead.failed\"}".to_owned(), "missing_field"),
            (event("lead.lost", "ABC", ""), "unknown_event"),
            (event("lead.failed", "ABC", &format!(",\"x\":\"{}\"", "y".repeat(300))), "too_large"),
            (event("lead.failed", "nope", ""), "unknown_campaign"),
            (event("lead.failed", "nope", ",\"organizationId\":\"stranger\""), "unknown_organization"),
            (event("lead.failed", "ABC", ",\"organizationId\":\"other\""), "organization_mismatch"),
        ] {
            let warning = judge.warning("f.json", body.as_bytes()).unwrap_or_default();
            assert!(
                warning.starts_with(&format!("the worker will reject this event as {reason}: f.json: ")),
                "{warning}"
            );
        }
        let blind = Judge { max_event_bytes: 300, store: None };
        assert_eq!(blind.warning("f.json", event("lead.failed", "nope", "").as_bytes()), None);
    }
}
