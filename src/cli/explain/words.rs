//! The answer of `leadhook explain` in words.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::{Answer, EventAnswer, TargetAnswer};
use crate::{cli::schedule::human, store::ValueSource};

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "campaign {}", self.campaign)?;
        match (&self.organization, self.listed, self.overrides) {
            (None, ..) => writeln!(f)?,
            (Some(id), false, _) => writeln!(f, " (not listed): the settings of organization {id} apply")?,
            (Some(id), true, false) => writeln!(f, " of organization {id}: the organization's settings apply")?,
            (Some(id), true, true) => writeln!(f, " of organization {id}: the campaign overrides")?,
        }
        if let Some(misplaced) = &self.misplaced {
            return writeln!(f, "\nno target ({}): {}", misplaced.reason, misplaced.text);
        }
        let width = self.events.iter().map(|event| event.event.len()).max().unwrap_or(0);
        writeln!(f)?;
        for EventAnswer { event, targets, no_target } in &self.events {
            match no_target {
                None => writeln!(f, "{event:width$}  -> {}", targets.join(", "))?,
                Some(reason) => writeln!(f, "{event:width$}  no target ({}): {}", reason.reason, reason.text)?,
            }
        }
        for target in &self.targets {
            write!(f, "\n{target}")?;
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}\n")?;
        }
        Ok(())
    }
}

fn or_none(value: Option<&impl fmt::Display>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

impl fmt::Display for TargetAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "target {}", self.key)?;
        let rows = self.rows();
        let width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        for (key, value, origin) in rows {
            let from = if origin == ValueSource::Default.name() { "" } else { "from the " };
            writeln!(f, "  {key:15}  {value:width$}  {from}{origin}")?;
        }
        self.write_schedule(f)
    }
}

impl TargetAnswer {
    /// Returns the name, value and origin of each setting. Optional settings are left out if they have their defaults.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut rows = vec![
            ("url", self.url.value.clone(), self.url.origin),
            ("events", self.events.value.join(", "), self.events.origin),
            ("retry_attempts", self.retry_attempts.value.to_string(), self.retry_attempts.origin),
            ("timeout", format!("{} s", self.timeout_seconds.value), self.timeout_seconds.origin),
            ("max_in_flight", self.max_in_flight.value.to_string(), self.max_in_flight.origin),
            ("signing_secrets", self.signing_secrets.value.to_string(), self.signing_secrets.origin),
        ];
        let default = ValueSource::Default.name();
        let rules = [
            ("max_per_second", or_none(self.max_per_second.value.as_ref()), self.max_per_second.origin),
            ("accept", self.accept.value.to_string(), self.accept.origin),
            ("never_retry", self.never_retry.value.to_string(), self.never_retry.origin),
            ("accept_if", or_none(self.accept_if.value.as_ref()), self.accept_if.origin),
            ("keep_refused", self.keep_refused.value.to_string(), self.keep_refused.origin),
            ("client cert", "yes".to_owned(), self.client_certificate.origin),
            ("ca_certificate", self.ca_certificate.value.to_string(), self.ca_certificate.origin),
            ("oauth2", or_none(self.oauth2.value.as_ref()), self.oauth2.origin),
        ];
        rows.extend(rules.into_iter().filter(|(.., origin)| *origin != default));
        rows.extend(self.headers.iter().map(|(name, origin)| ("header", format!("{name}: (hidden)"), *origin)));
        rows
    }

    fn write_schedule(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |part: fn(&crate::cli::schedule::Wait) -> String| {
            let parts: Vec<_> = self.schedule.waits.iter().map(part).collect();
            parts.join(", ")
        };
        let mut text = String::new();
        writeln!(text, "  retries after    {}", join(|wait| human(wait.nominal)))?;
        writeln!(
            text,
            "  with jitter      {} ({} % to either side, then up to the next delay queue)",
            join(|wait| format!("{} to {}", human(wait.shortest), human(wait.longest))),
            (self.jitter * 100.0).round()
        )?;
        writeln!(
            text,
            "  worst case       {} from the first attempt to the end of the last, if every one times out",
            human(self.schedule.worst_case)
        )?;
        writeln!(
            text,
            "  expires          {} after the event was first seen, deferred or not (delivery.maximum_age)",
            human(Duration::from_secs(self.maximum_age_seconds))
        )?;
        if self.schedule.worst_case > Duration::from_secs(self.maximum_age_seconds) {
            writeln!(text, "  warning          it may expire before its last attempt: the worst case takes longer")?;
        }
        f.write_str(&text)
    }
}
