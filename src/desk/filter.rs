//! Which records somebody wants to see.

use jiff::{Timestamp, civil, tz::TimeZone};

use super::record::{Reason, Record};
use crate::{delivery::outcome::FailReason, duration, event::EventKind, job::Job, rejection::RejectReason};

/// All that is said must hold. Messages that cannot be read match only where nothing about a job is asked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The event's campaign.
    pub campaign: Option<String>,
    /// The organization.
    pub organization: Option<String>,
    /// The whole target key.
    pub target: Option<String>,
    /// The event.
    pub event: Option<EventKind>,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`.
    pub submission: Option<String>,
    /// The reason's word; see [`reason`].
    pub reason: Option<String>,
    /// What the last attempt came to: `status`, `timeout` ...
    pub error: Option<String>,
    /// Failed at this time or later.
    pub since: Option<Timestamp>,
    /// Failed before this time.
    pub before: Option<Timestamp>,
}

impl Filter {
    /// Whether a record is wanted. A record without a time is none that failed at a certain time.
    pub fn matches(&self, record: &Record) -> bool {
        let job = record.content.as_ref().ok();
        let is = |wanted: &Option<String>, found: Option<&str>| match wanted {
            None => true,
            Some(wanted) => found == Some(wanted),
        };
        let reason = match &record.reason {
            Reason::Newer(_) => Reason::Unsaid.label(),
            other => other.label(),
        };
        is(&self.campaign, job.map(|job| job.campaign.as_str()))
            && is(&self.organization, job.map(|job| job.organization.as_str()))
            && is(&self.target, job.map(|job| job.target.as_str()))
            && self.event.is_none_or(|event| job.is_some_and(|job| job.kind == event))
            && is(&self.submission, job.and_then(|job| job.submission.as_deref()))
            && is(&self.reason, Some(reason))
            && is(&self.error, job.and_then(|job| Some(job.history.entries().last()?.reason.as_str())))
            && (self.lead.is_none() || is(&self.lead, job.and_then(Job::lead_id).as_deref()))
            && self.since.is_none_or(|since| record.failed_at.is_some_and(|at| at >= since))
            && self.before.is_none_or(|before| record.failed_at.is_some_and(|at| at < before))
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        let Filter { campaign, organization, target, event, lead, submission, reason, error, since, before } = self;
        [campaign, organization, target, lead, submission, reason, error].iter().all(|asked| asked.is_none())
            && event.is_none()
            && since.is_none()
            && before.is_none()
    }
}

/// Checks the word of a reason of the rejected queue.
///
/// # Errors
/// It is none; says which there are.
pub fn reject_reason(text: &str) -> Result<String, String> {
    match RejectReason::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("expected one of {}", RejectReason::ALL.map(RejectReason::label).join(", "))),
    }
}

/// Checks the word of a reason.
///
/// # Errors
/// It is none; says which there are.
pub fn reason(text: &str) -> Result<String, String> {
    let others = [Reason::DeadLettered, Reason::Unsaid];
    let words: Vec<_> =
        FailReason::ALL.iter().map(|reason| reason.label()).chain(others.iter().map(Reason::label)).collect();
    match words.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected one of {}", words.join(", "))),
    }
}

/// Reads a moment as people write it: `2h`, `3d`, `90m` (that long ago), `2024-06-15` (its beginning, UTC), or RFC 3339.
///
/// # Errors
/// It is none of these.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong =
        || "expected an age (90m, 2h, 3d), a date (2024-06-15, in UTC) or a time (2024-06-15T10:30:00Z)".to_owned();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(date) = text.parse::<civil::Date>() {
        return TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| wrong());
    }
    let age = duration::parse(text).map_err(|_| wrong())?;
    now.checked_sub(age).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_as_people_write_them() {
        let now: Timestamp = "2024-06-15T10:30:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| assert_eq!(moment(text, now).unwrap().to_string(), expected, "{text}");
        check("90m", "2024-06-15T09:00:00Z");
        check("2h", "2024-06-15T08:30:00Z");
        check("3d", "2024-06-12T10:30:00Z");
        check("1w", "2024-06-08T10:30:00Z");
        check("2024-06-01", "2024-06-01T00:00:00Z");
        check("2024-06-01T12:00:00+02:00", "2024-06-01T10:00:00Z");
        for wrong in ["", "yesterday", "2", "2024-13-01", "-2h", "2h ago ago", "9999999999999d"] {
            assert!(moment(wrong, now).unwrap_err().contains("expected an age"), "{wrong}");
        }
    }

    #[test]
    fn reasons_are_a_closed_list() {
        assert_eq!(reason("exhausted"), Ok("exhausted".into()));
        assert_eq!(reason("dead_lettered"), Ok("dead_lettered".into()));
        assert!(reason("exausted").unwrap_err().contains("exhausted, gone"));
    }
}
