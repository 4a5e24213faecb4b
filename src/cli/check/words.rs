//! The report of `leadhook check` in words.

use std::fmt::Write;

use super::{Report, ScopeReport, StoreReport};
use crate::{
    cli::{
        output::{Exit, Terminal, Tone},
        readable::counted,
        table::{Cell, Table},
    },
    event::EventKind,
};

impl Report {
    pub(super) fn exit(&self) -> Exit {
        match (self.errors.is_empty(), self.ok) {
            (false, _) => Exit::Usage,
            (true, false) => Exit::Findings,
            (true, true) => Exit::Ok,
        }
    }

    pub(super) fn text(&self, terminal: Terminal) -> String {
        let mut text = String::new();
        self.write_problems(&mut text, terminal);
        // A summary of unusable values would only hide the errors.
        if !self.errors.is_empty() {
            text.truncate(text.trim_end().len());
            return text;
        }
        if let Some(settings) = &self.settings {
            heading(&mut text, terminal, "settings");
            let width = settings.keys().map(String::len).max().unwrap_or(0);
            for (key, value) in settings {
                line(&mut text, &format!("  {key:width$}  {value}"));
            }
            text.push('\n');
        }
        if let Some(store) = &self.store {
            store.write(&mut text, terminal);
        }
        section(&mut text, terminal, "notes", &self.notes);
        match self.errors.is_empty() && self.warnings.is_empty() {
            true => text.push_str(&terminal.paint(Tone::Good, &self.verdict())),
            false => text.truncate(text.trim_end().len()),
        }
        text
    }

    /// Writes the number of problems and each problem, errors before warnings. Writes nothing if there are none.
    fn write_problems(&self, text: &mut String, terminal: Terminal) {
        let tone = match (self.errors.is_empty(), self.warnings.is_empty()) {
            (true, true) => return,
            (true, false) => Tone::Warning,
            (false, _) => Tone::Bad,
        };
        line(text, &terminal.paint(tone, &self.verdict()));
        for error in &self.errors {
            line(text, &format!("  {} {error}", terminal.paint(Tone::Bad, "error:")));
        }
        for warning in &self.warnings {
            line(text, &format!("  {} {warning}", terminal.paint(Tone::Warning, "warning:")));
        }
        text.push('\n');
    }

    /// Returns the result in one line.
    pub(super) fn verdict(&self) -> String {
        let count = |problems: &[String], one: &str| match problems.len() as u64 {
            0 => None,
            many => Some(counted(many, one, &format!("{one}s"))),
        };
        let counts = [count(&self.errors, "error"), count(&self.warnings, "warning")];
        let counts = counts.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let failing = match self.failing_targets as u64 {
            0 => String::new(),
            some => format!("; deliveries to {} will fail", counted(some, "enabled target", "enabled targets")),
        };
        match (self.errors.is_empty(), counts.is_empty()) {
            (false, _) if self.store.is_none() && self.store_problems.is_empty() => {
                format!("the configuration cannot be used: {counts}; the webhook store was not looked at")
            }
            (false, _) => format!("the configuration cannot be used: {counts}{failing}"),
            (true, false) => format!("the configuration can be used, with {counts}{failing}"),
            (true, true) => "the configuration is good".to_owned(),
        }
    }
}

impl StoreReport {
    fn write(&self, text: &mut String, terminal: Terminal) {
        heading(text, terminal, &format!("webhook store, revision {}", self.revision));
        let counts = [
            counted(self.organizations as u64, "organization", "organizations"),
            counted(self.campaigns as u64, "listed campaign", "listed campaigns"),
            counted(self.overrides as u64, "override", "overrides"),
            counted(self.targets as u64, "target", "targets"),
            format!("{} disabled", self.disabled),
        ];
        line(text, &format!("  {}", counts.join(", ")));
        if let Some(id) = &self.default_organization {
            line(text, &format!("  campaigns that are not listed belong to {id}, where the message names none"));
        }
        text.push('\n');
        let headings = ["target", "url", "events (lead.)", "retries", "timeout", "signed", "headers"];
        let mut table = Table::new(terminal, &headings);
        for scope in &self.scopes {
            table.row(scope.cells());
        }
        line(text, &table.to_string());
        text.push('\n');
        heading(text, terminal, "targets by event");
        let width = EventKind::ALL.map(|kind| kind.name().len()).into_iter().max().unwrap_or(0);
        for kind in EventKind::ALL {
            let count = self.targets_by_event.get(kind.name()).copied().unwrap_or(0);
            line(text, &format!("  {:width$}  {count}", kind.name()));
        }
        text.push('\n');
    }
}

impl ScopeReport {
    fn cells(&self) -> [Cell; 7] {
        let key = match self.enabled {
            true => Cell::text(&self.key),
            false => Cell::text(format!("{} (disabled)", self.key)).tone(Tone::Quiet),
        };
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            key,
            Cell::text(or_dash(self.url.clone())),
            Cell::text(self.events_in_short()),
            Cell::number(or_dash(self.retry_attempts.map(|retries| retries.to_string()))),
            Cell::number(or_dash(self.timeout_seconds.map(|seconds| format!("{seconds} s")))),
            Cell::text(if self.signed { "yes" } else { "no" }),
            Cell::number(self.headers),
        ]
    }

    fn events_in_short(&self) -> String {
        match self.events.len() {
            0 => "-".to_owned(),
            all if all == EventKind::ALL.len() => "all".to_owned(),
            _ => {
                let names: Vec<_> = self.events.iter().map(|name| name.trim_start_matches("lead.")).collect();
                names.join(", ")
            }
        }
    }
}

fn section(text: &mut String, terminal: Terminal, title: &str, entries: &[String]) {
    if entries.is_empty() {
        return;
    }
    heading(text, terminal, title);
    for entry in entries {
        line(text, &format!("  {entry}"));
    }
    text.push('\n');
}

fn heading(text: &mut String, terminal: Terminal, title: &str) {
    line(text, &terminal.paint(Tone::Strong, title));
}

/// Appends a line without trailing blanks. Writing to a string cannot fail.
fn line(text: &mut String, content: &str) {
    let _ = writeln!(text, "{}", content.trim_end());
}
