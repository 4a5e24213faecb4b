//! Lead events that look real and name no real person, for demonstrations, load and tests.
//!
//! Names are made up, e-mail addresses end in example.com, and telephone numbers come from the range reserved for
//! fiction.

use fastrand::Rng;
use jiff::Timestamp;
use serde::Serialize;

use crate::event::EventKind;

/// One sample event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The event, which is also the routing key.
    pub kind: EventKind,
    /// The body: compact JSON, with the fields in the order of the contract.
    pub body: String,
}

/// An endless series of sample events. The kinds and the campaigns rotate, and ids never repeat.
pub struct Samples {
    rng: Rng,
    number: usize,
    campaigns: Vec<String>,
    organization: Option<String>,
    now: Timestamp,
}

impl Samples {
    /// Creates events of these campaigns (`ABC` if none is given), all with the timestamp `now`.
    pub fn new(seed: Option<u64>, campaigns: Vec<String>, organization: Option<String>, now: Timestamp) -> Samples {
        let campaigns = if campaigns.is_empty() { vec!["ABC".to_owned()] } else { campaigns };
        Samples { rng: seed.map_or_else(Rng::new, Rng::with_seed), number: 0, campaigns, organization, now }
    }
}

impl Iterator for Samples {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let kind = EventKind::ALL[self.number % EventKind::ALL.len()];
        // A campaign gets one event of every kind before the next campaign follows.
        let campaign = &self.campaigns[self.number / EventKind::ALL.len() % self.campaigns.len()];
        let event = Event {
            event: kind.name(),
            lead_id: format!("lead_{:08x}{:04x}", self.rng.u32(..), self.number),
            submission_id: format!("sub_{:08x}{:04x}", self.rng.u32(..), self.number),
            campaign_id: campaign,
            organization_id: self.organization.as_deref(),
            status: status(kind),
            timestamp: self.now.to_string(),
            data: person(&mut self.rng, kind),
        };
        self.number += 1;
        // Structs of text and numbers always serialize.
        let body = serde_json::to_string(&event).unwrap_or_default();
        Some(Sample { kind, body })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event: &'static str,
    lead_id: String,
    submission_id: String,
    campaign_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
    status: &'static str,
    timestamp: String,
    data: Data,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    first_name: &'static str,
    last_name: &'static str,
    email: String,
    phone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    utm: Option<Utm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Utm {
    source: &'static str,
    medium: &'static str,
}

fn status(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Delivered => "delivered",
        EventKind::Disqualified => "disqualified",
        EventKind::Failed => "failed",
        EventKind::Queued => "queued",
        EventKind::FirstSubmissionAction => "submitted",
        EventKind::Processed => "processed",
    }
}

fn reason(rng: &mut Rng, kind: EventKind) -> Option<&'static str> {
    let reasons: &[&str] = match kind {
        EventKind::Disqualified => &["outside_service_area", "duplicate", "budget_too_low"],
        EventKind::Failed => &["buyer_unavailable", "invalid_phone", "daily_cap_reached"],
        EventKind::Delivered | EventKind::Queued | EventKind::FirstSubmissionAction | EventKind::Processed => &[],
    };
    rng.choice(reasons).copied()
}

fn person(rng: &mut Rng, kind: EventKind) -> Data {
    let (first_name, plain_first) = pick(rng, FIRST_NAMES);
    let (last_name, plain_last) = pick(rng, LAST_NAMES);
    Data {
        first_name,
        last_name,
        email: format!("{plain_first}.{plain_last}{}@example.com", rng.u16(1..1000)),
        phone: format!("+1{}55501{:02}", pick(rng, AREA_CODES), rng.u8(..100)),
        city: rng.bool().then(|| pick(rng, CITIES)),
        consent: rng.bool().then(|| rng.bool()),
        budget: (rng.u8(..3) == 0).then(|| rng.u32(1..200) * 500),
        utm: rng.bool().then(|| Utm { source: pick(rng, SOURCES), medium: pick(rng, MEDIA) }),
        reason: reason(rng, kind),
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// Each name as written, and as in an e-mail address.
const FIRST_NAMES: &[(&str, &str)] = &[
    ("John", "john"),
    ("Aisha", "aisha"),
    ("Zoë", "zoe"),
    ("Mateo", "mateo"),
    ("Priya", "priya"),
    ("Søren", "soren"),
    ("Mary-Ann", "mary-ann"),
    ("陽子", "yoko"),
    ("Oluwaseun", "oluwaseun"),
    ("Łukasz", "lukasz"),
];
const LAST_NAMES: &[(&str, &str)] = &[
    ("Doe", "doe"),
    ("O'Neill", "oneill"),
    ("García López", "garcia-lopez"),
    ("Nguyen", "nguyen"),
    ("Müller", "mueller"),
    ("van der Berg", "vanderberg"),
    ("Okafor", "okafor"),
    ("Smith", "smith"),
    ("Yılmaz", "yilmaz"),
    ("Kowalska", "kowalska"),
];
const AREA_CODES: &[u16] = &[206, 212, 303, 312, 415, 512, 617, 702];
const CITIES: &[&str] = &["Austin", "Zürich", "São Paulo", "Leeds", "Québec", "Osaka"];
const SOURCES: &[&str] = &["search", "newsletter", "partner", "social"];
const MEDIA: &[&str] = &["cpc", "email", "organic", "referral"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jiff::Timestamp;
    use serde_json::Value;

    use super::Samples;
    use crate::event::EventKind;

    fn samples(seed: u64, count: usize) -> Vec<super::Sample> {
        let now: Timestamp = "2024-06-15T10:30:00Z".parse().unwrap();
        Samples::new(Some(seed), vec!["A".into(), "B".into()], None, now).take(count).collect()
    }

    #[test]
    fn samples_are_valid_events_without_real_people() {
        for sample in samples(7, 60) {
            let event: Value = serde_json::from_str(&sample.body).unwrap();
            assert_eq!(EventKind::parse(event["event"].as_str().unwrap()), Some(sample.kind));
            for field in ["leadId", "submissionId", "campaignId", "status"] {
                assert!(event[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {event}");
            }
            assert_eq!(event["timestamp"], "2024-06-15T10:30:00Z");
            assert!(event["data"]["email"].as_str().unwrap().ends_with("@example.com"));
            assert!(event["data"]["email"].as_str().unwrap().is_ascii());
            let phone = event["data"]["phone"].as_str().unwrap();
            assert!(phone.len() == 12 && phone.contains("55501"), "{phone}");
            assert!(event.get("organizationId").is_none());
        }
    }

    #[test]
    fn every_campaign_sees_every_kind_and_no_id_comes_twice() {
        let events: Vec<Value> =
            samples(7, 1200).iter().map(|sample| serde_json::from_str(&sample.body).unwrap()).collect();
        let seen: HashSet<_> = events.iter().map(|event| (&event["campaignId"], &event["event"])).collect();
        assert_eq!(seen.len(), 2 * EventKind::ALL.len());
        for id in ["leadId", "submissionId"] {
            let ids: HashSet<_> = events.iter().map(|event| &event[id]).collect();
            assert_eq!(ids.len(), events.len());
        }
    }

    #[test]
    fn a_seed_repeats_itself_and_an_organization_is_named_when_asked() {
        assert_eq!(samples(7, 20), samples(7, 20));
        assert_ne!(samples(7, 20), samples(8, 20));
        let sample = Samples::new(None, Vec::new(), Some("acme".into()), Timestamp::UNIX_EPOCH).next().unwrap();
        let event: Value = serde_json::from_str(&sample.body).unwrap();
        assert_eq!((&event["organizationId"], &event["campaignId"]), (&"acme".into(), &"ABC".into()));
    }
}
