//! One request as a line: for people (long or brief) or as JSON.

use std::time::SystemTime;

use serde::Serialize;

use crate::{
    event::members::members,
    receiver::{Received, Signature},
};

/// One request as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver: Option<String>,
    time: String,
    method: String,
    path: String,
    event: Option<String>,
    submission: Option<String>,
    campaign: Option<String>,
    webhook_id: Option<String>,
    attempt: Option<u32>,
    signature: &'static str,
    duplicate: bool,
    reply: String,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// The parts of the body that a line shows.
#[derive(Default)]
struct Glance {
    event: Option<String>,
    submission: Option<String>,
    campaign: Option<String>,
}

impl Glance {
    fn of(body: &[u8]) -> Glance {
        let mut glance = Glance::default();
        let read = members(body, |member| {
            let part = match member.name().as_ref() {
                "event" => &mut glance.event,
                "submissionId" => &mut glance.submission,
                "campaignId" => &mut glance.campaign,
                _ => return,
            };
            *part = Some(member.text().into_owned()).filter(|_| member.value != "null");
        });
        if read.is_ok() { glance } else { Glance::default() }
    }
}

impl Line {
    /// Creates the line of a request to the receiver of that name. Includes the body only if `show_body` is set.
    pub(super) fn new(receiver: Option<&str>, received: &Received, duplicate: bool, show_body: bool) -> Line {
        let glance: Glance = Glance::of(&received.body);
        Line {
            kind: "request",
            receiver: receiver.map(str::to_owned),
            time: time(received.at),
            method: received.method.clone(),
            path: received.path.clone(),
            event: glance.event,
            submission: glance.submission,
            campaign: glance.campaign,
            webhook_id: received.webhook_id().map(str::to_owned),
            attempt: received.attempt(),
            signature: match received.signature() {
                Signature::Unchecked => "unchecked",
                Signature::Verified => "verified",
                Signature::Missing => "missing",
                Signature::Bad => "bad",
            },
            duplicate,
            reply: received.reply.action.to_string(),
            status: received.status,
            body: show_body.then(|| String::from_utf8_lossy(&received.body).into_owned()),
        }
    }
}

/// The style of lines for people.
#[derive(Clone, Debug, Default)]
pub(super) struct Style {
    /// Whether to use colours.
    pub colour: bool,
    /// Less than a hundred columns: no date, no address, short ids.
    pub brief: bool,
    /// The name before each line.
    pub name: Option<String>,
}

impl Style {
    /// Formats the line for people. The sender controls its text, so characters that move the cursor are replaced.
    pub(super) fn show(&self, line: &Line) -> String {
        let shown = if self.brief { self.brief_line(line) } else { self.long_line(line) };
        let body = line.body.as_ref().map(|body| format!("\n    {}", plain(body, usize::MAX)));
        format!("{}{shown}{}", self.prefix(), body.unwrap_or_default())
    }

    /// Returns the name in its own colour, or nothing.
    pub(super) fn prefix(&self) -> String {
        let Some(name) = &self.name else { return String::new() };
        let sum: usize = name.trim().bytes().map(usize::from).sum();
        format!("{}  ", self.paint(NAMES[sum % NAMES.len()], &plain(name, 40)))
    }

    fn long_line(&self, line: &Line) -> String {
        let clock = line.time.get(11..).unwrap_or(&line.time);
        let mut parts = vec![
            self.paint(DIM, clock),
            format!("{} {}", plain(&line.method, 10), plain(&line.path, 80)),
            self.paint(BOLD, &line.event.as_deref().map_or("no event".into(), |event| plain(event, 40))),
        ];
        parts.extend(line.submission.as_ref().map(|submission| format!("submission {}", plain(submission, 40))));
        let webhook = line.webhook_id.as_deref().map_or("none".into(), |id| plain(id, 12));
        parts.push(format!("webhook {webhook}"));
        parts.extend(line.attempt.map(|attempt| format!("attempt {attempt}")));
        self.findings(line, &mut parts);
        parts.join("  ")
    }

    fn brief_line(&self, line: &Line) -> String {
        let clock = line.time.get(11..23).unwrap_or(&line.time);
        let event = line.event.as_deref().map_or("no event".into(), |event| plain(event, 28));
        let campaign = line.campaign.as_deref().map_or("-".into(), |campaign| plain(campaign, 12));
        let webhook = line.webhook_id.as_deref().map_or("none".into(), |id| plain(id, 11));
        let mut parts = vec![
            self.paint(DIM, clock),
            self.paint(BOLD, &format!("{event:28}")),
            format!("{campaign:6}"),
            format!("{webhook:11}"),
        ];
        parts.extend(line.attempt.map(|attempt| format!("attempt {attempt}")));
        self.findings(line, &mut parts);
        parts.join("  ")
    }

    /// Appends the signature, the duplicate mark and the answer.
    fn findings(&self, line: &Line, parts: &mut Vec<String>) {
        match line.signature {
            "verified" if self.brief => parts.push(self.paint(GREEN, "signed")),
            "verified" => parts.push(format!("signature {}", self.paint(GREEN, "verified"))),
            "unchecked" => {}
            wrong => parts.push(format!("signature {}", self.paint(RED, &wrong.to_uppercase()))),
        }
        if line.duplicate {
            parts.push(self.paint(YELLOW, "duplicate"));
        }
        let colour = match line.status {
            Some(200..=299) => GREEN,
            Some(300..=499) => YELLOW,
            Some(_) | None => RED,
        };
        parts.push(format!("-> {}", self.paint(colour, &line.reply)));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Formats a time as RFC 3339 in UTC, with milliseconds.
fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| format!("{at:.3}")).unwrap_or_default()
}

/// Returns at most `limit` characters, with blanks for control characters.
fn plain(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
/// Colours of names. They differ from the colours of results.
const NAMES: [&str; 3] = ["36", "35", "34"];
