//! Filters for records of the failed and the rejected queue.

use jiff::{Timestamp, civil, tz::TimeZone};

use super::record::{DEAD_LETTERED, Reason, Record, UNSAID};
use crate::{
    delivery::reason::{FailReason, RetryReason},
    duration,
    event::EventKind,
    job::Job,
};

/// All conditions that are set must hold. A message that is not a job matches only without conditions on a job.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The event's campaign.
    pub campaign: Option<String>,
    /// The organization.
    pub organization: Option<String>,
    /// The whole target key.
    pub target: Option<String>,
    /// The event's kind.
    pub event: Option<EventKind>,
    /// The event's `leadId`.
    pub lead: Option<String>,
    /// The event's `submissionId`.
    pub submission: Option<String>,
    /// The reason's word; see [`reason`].
    pub reason: Option<String>,
    /// Error of the last attempt: `status`, `timeout` ...
    pub error: Option<String>,
    /// Failed at this time or later.
    pub since: Option<Timestamp>,
    /// Failed before this time.
    pub before: Option<Timestamp>,
}

impl Filter {
    /// Returns whether a record matches. A record without a time matches no bound on the time.
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

    /// Returns whether no condition is set.
    pub fn is_empty(&self) -> bool {
        let Filter { campaign, organization, target, event, lead, submission, reason, error, since, before } = self;
        [campaign, organization, target, lead, submission, reason, error].iter().all(|asked| asked.is_none())
            && event.is_none()
            && since.is_none()
            && before.is_none()
    }
}

/// Returns the reasons for which a message rests on the failed queue.
pub fn reasons() -> Vec<&'static str> {
    FailReason::ALL.map(FailReason::label).into_iter().chain([DEAD_LETTERED, UNSAID]).collect()
}

/// Returns the errors of attempts that did not deliver.
pub fn errors() -> Vec<&'static str> {
    let ends = [
        FailReason::Gone,
        FailReason::NeverRetry,
        FailReason::Refused,
        FailReason::ForbiddenAddress,
        FailReason::PlainHttp,
        FailReason::UnusableTarget,
    ];
    RetryReason::all().into_iter().map(RetryReason::label).chain(ends.map(FailReason::label)).collect()
}

/// Checks the name of a reason.
///
/// # Errors
/// It is not a reason. The error lists all reasons.
pub fn reason(text: &str) -> Result<String, String> {
    let reasons = reasons();
    match reasons.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected one of {}", reasons.join(", "))),
    }
}

/// Reads a point in time as people write it. A time without a zone is in UTC.
///
/// | written | means |
/// |---|---|
/// | `90m`, `2h`, `3d` | this long before `now` |
/// | `today`, `yesterday`, `2024-06-15` | the beginning of that day |
/// | `9:00` | the last time that it was 9:00 |
/// | `2024-06-15T10:30`, `2024-06-15 10:30` | that time |
/// | `2024-06-15T10:30:00+02:00` | RFC 3339 |
///
/// # Errors
/// The text has none of these forms.
pub fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    const RIGHT: &str = "write an age (90m, 2h, 3d), today, yesterday, a time (9:00), a date (2024-06-15), or both \
                         (2024-06-15T10:30, in UTC, or with a zone as in 2024-06-15T10:30:00+02:00)";
    let wrong = || RIGHT.to_owned();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Some(civil) = civil_time(text, TimeZone::UTC.to_datetime(now)) {
        return TimeZone::UTC.to_timestamp(civil).map_err(|_| wrong());
    }
    let age = duration::parse(text).map_err(|_| wrong())?;
    now.checked_sub(age).map_err(|_| wrong())
}

/// Reads a date, a time of day, or both, without a zone.
fn civil_time(text: &str, now: civil::DateTime) -> Option<civil::DateTime> {
    let (today, midnight) = (now.date(), civil::Time::midnight());
    let yesterday = today.yesterday().ok()?;
    let time_of_day = |text: &str| match text.find(':')? {
        1 => format!("0{text}").parse::<civil::Time>().ok(),
        2 => text.parse().ok(),
        _ => None,
    };
    match text {
        "today" => Some(today.to_datetime(midnight)),
        "yesterday" => Some(yesterday.to_datetime(midnight)),
        _ => match time_of_day(text) {
            Some(time) if time <= now.time() => Some(today.to_datetime(time)),
            Some(time) => Some(yesterday.to_datetime(time)),
            // The parser would ignore a zone that it cannot use.
            None => text.parse().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit() || "-:.Tt ".contains(c))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now: Timestamp = "2024-06-15T10:30:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| assert_eq!(time(text, now).unwrap().to_string(), expected, "{text}");
        check("90m", "2024-06-15T09:00:00Z");
        check("2h", "2024-06-15T08:30:00Z");
        check("3d", "2024-06-12T10:30:00Z");
        check("1w", "2024-06-08T10:30:00Z");
        check("today", "2024-06-15T00:00:00Z");
        check("yesterday", "2024-06-14T00:00:00Z");
        check("9:00", "2024-06-15T09:00:00Z");
        check("09:00:30", "2024-06-15T09:00:30Z");
        check("23:00", "2024-06-14T23:00:00Z");
        check("2024-06-01", "2024-06-01T00:00:00Z");
        check("2024-06-01T23:00", "2024-06-01T23:00:00Z");
        check("2024-06-01 23:00:05", "2024-06-01T23:00:05Z");
        check("2024-06-01T23:00Z", "2024-06-01T23:00:00Z");
        check("2024-06-01T12:00:00+02:00", "2024-06-01T10:00:00Z");
        let wrong = [
            "",
            "tomorrow",
            "2",
            "25:00",
            "9:0",
            "2024-13-01",
            "2024-06-01T25:00",
            "2024-06-01T23:00[Europe/Berlin]",
            "2024-06-01T23:00 Berlin",
            "-2h",
            "2h ago ago",
            "9999999999999d",
        ];
        for wrong in wrong {
            assert!(time(wrong, now).unwrap_err().starts_with("write an age"), "{wrong}");
        }
    }

    #[test]
    fn reasons_are_a_closed_list() {
        assert_eq!(reason("exhausted"), Ok("exhausted".into()));
        assert_eq!(reason("dead_lettered"), Ok("dead_lettered".into()));
        assert!(reason("exausted").unwrap_err().contains("exhausted, gone"));
    }
}
