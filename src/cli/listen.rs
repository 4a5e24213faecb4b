//! `leadhook listen`: a receiver to try deliveries with. It answers by a script and prints a line for each request.
//!
//! Lines name event, submission and webhook-id, and never what is in `data`: the body is shown only on request.

use std::{
    collections::HashMap,
    fmt,
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    delivery::signature::SigningSecret,
    receiver::{Options, Received, Receiver, Script, Signature},
};

/// Receive webhooks on this machine and answer by a script.
#[derive(Args, Clone)]
#[command(after_long_help = "\
Replies of --respond, given in turn, the last one for ever:
  200, 500, 410, 301 ...   that status (200 to 599); 3xx point back to this receiver
  429:7, 503:3             the status with a Retry-After of so many seconds
  hang                     no answer, the connection stays open
  drip                     200, then one byte every 200 ms for ever
  endless, endless:200     500 (or that status), then bytes without end
  close                    the connection is closed without an answer
Each can be delayed (200@250ms) and repeated (500x3).

Examples:
  leadhook listen --respond 500x2,429:7,200
  leadhook listen --respond 500,200 --per-webhook      every delivery fails once")]
pub struct ListenArgs {
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// What to answer, in turn
    #[arg(long, default_value = "200", value_name = "REPLIES")]
    pub respond: Script,
    /// Run the replies for each webhook-id anew
    #[arg(long)]
    pub per_webhook: bool,
    /// Signing secret (whsec_...) to verify with; give it again for several, or separate them by commas
    #[arg(
        long = "secret",
        env = "LEADHOOK_LISTEN_SECRETS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "SECRET"
    )]
    pub secrets: Vec<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// Print the first line and the summary only
    #[arg(long, conflicts_with = "show_body")]
    pub quiet: bool,
    /// Print bodies too; they hold personal data
    #[arg(long)]
    pub show_body: bool,
}

/// Listens until SIGINT or SIGTERM, then prints a summary.
///
/// # Errors
/// When a secret cannot be used, or the address cannot be bound. Output that nobody reads any more (`| head`) ends it
/// without an error.
pub async fn run(args: ListenArgs) -> anyhow::Result<()> {
    let (bind, port) = (args.bind, args.port);
    let options = Options {
        bind,
        port,
        script: args.respond.clone(),
        per_webhook: args.per_webhook,
        secrets: parse_secrets(&args.secrets)?,
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let receiver = Receiver::start(options).await.with_context(|| format!("cannot listen on {bind} port {port}"))?;
    let mut log = Log::new(&args, io::stdout());
    let mut alive = unless_unread(log.listening(&receiver.url()))?;
    while alive {
        let arrived = tokio::select! {
            arrived = receiver.take() => arrived,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        alive = unless_unread(log.requests(&arrived))?;
    }
    let rest = receiver.received();
    receiver.shutdown().await;
    if alive {
        unless_unread(log.requests(&rest).and_then(|()| log.summary()))?;
    }
    Ok(())
}

fn parse_secrets(texts: &[String]) -> anyhow::Result<Vec<SigningSecret>> {
    let parse = |(index, text): (usize, &String)| {
        SigningSecret::parse(text.trim()).with_context(|| format!("--secret number {} cannot be used", index + 1))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// Whether output is still read; other trouble is an error.
fn unless_unread(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is printed, and what has been counted.
struct Log<W> {
    out: W,
    json: bool,
    quiet: bool,
    show_body: bool,
    colour: bool,
    counts: Summary,
    /// Each webhook-id, and whether it has been answered 2xx.
    seen: HashMap<String, bool>,
}

/// What had happened when the receiver was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    /// All requests.
    requests: u64,
    /// Distinct webhook-ids.
    webhooks: u64,
    /// Webhooks that were answered 2xx.
    delivered: u64,
    /// Requests for a webhook that had been answered 2xx before.
    duplicates: u64,
    /// Requests whose signature was bad or missing, although there are secrets to check with.
    bad_signatures: u64,
}

/// One request, as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    method: String,
    path: String,
    event: Option<String>,
    submission: Option<String>,
    webhook_id: Option<String>,
    attempt: Option<u32>,
    signature: &'static str,
    duplicate: bool,
    reply: String,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// What a line shows of the body.
#[derive(Default, Deserialize)]
struct Glance {
    event: Option<String>,
    #[serde(rename = "submissionId")]
    submission_id: Option<String>,
}

impl<W: Write> Log<W> {
    fn new(args: &ListenArgs, out: W) -> Log<W> {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let ListenArgs { json, quiet, show_body, .. } = *args;
        Log { out, json, quiet, show_body, colour, counts: Summary::default(), seen: HashMap::new() }
    }

    fn listening(&mut self, url: &str) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{}", serde_json::json!({ "type": "listening", "url": url }))?;
        } else {
            writeln!(self.out, "listening on {url}")?;
        }
        self.out.flush()
    }

    /// Counts and prints what has arrived, with one write for all.
    fn requests(&mut self, arrived: &[Arc<Received>]) -> io::Result<()> {
        let mut text = String::new();
        for received in arrived {
            let duplicate = self.count(received);
            if self.quiet {
                continue;
            }
            let line = Line::new(received, duplicate, self.show_body);
            if self.json {
                text.push_str(&serde_json::to_string(&line)?);
            } else {
                text.push_str(&Shown { line: &line, colour: self.colour }.to_string());
            }
            text.push('\n');
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn summary(&mut self) -> io::Result<()> {
        let Summary { requests, webhooks, delivered, duplicates, bad_signatures } = self.counts;
        if self.json {
            writeln!(self.out, "{}", serde_json::json!({ "type": "summary", "summary": self.counts }))?;
        } else {
            let counted = [
                counted(requests, "request", "requests"),
                counted(webhooks, "webhook", "webhooks"),
                format!("{delivered} delivered"),
                counted(duplicates, "duplicate", "duplicates"),
                counted(bad_signatures, "bad or missing signature", "bad or missing signatures"),
            ];
            writeln!(self.out, "\n{}", counted.join(", "))?;
        }
        self.out.flush()
    }

    /// Whether this webhook had been answered 2xx before.
    fn count(&mut self, received: &Received) -> bool {
        self.counts.requests += 1;
        self.counts.bad_signatures += u64::from(received.verified == Some(false));
        let Some(id) = received.webhook_id() else { return false };
        let delivered = received.status.is_some_and(|status| (200..300).contains(&status));
        let Some(before) = self.seen.get_mut(id) else {
            self.seen.insert(id.to_owned(), delivered);
            self.counts.webhooks += 1;
            self.counts.delivered += u64::from(delivered);
            return false;
        };
        let duplicate = *before;
        self.counts.duplicates += u64::from(duplicate);
        self.counts.delivered += u64::from(delivered && !duplicate);
        *before |= delivered;
        duplicate
    }
}

impl Line {
    fn new(received: &Received, duplicate: bool, show_body: bool) -> Line {
        let glance: Glance = serde_json::from_slice(&received.body).unwrap_or_default();
        Line {
            kind: "request",
            time: time(received.at),
            method: received.method.clone(),
            path: received.path.clone(),
            event: glance.event,
            submission: glance.submission_id,
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

/// RFC 3339 in UTC with milliseconds.
fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| format!("{at:.3}")).unwrap_or_default()
}

/// A line for people. The text comes from whoever sends, so nothing that moves a cursor gets through.
struct Shown<'a> {
    line: &'a Line,
    colour: bool,
}

impl Shown<'_> {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { time, method, path, event, submission, webhook_id, attempt, .. } = self.line;
        let clock = time.get(11..).unwrap_or(time);
        write!(f, "{}  {} {}", self.paint(DIM, clock), plain(method, 10), plain(path, 80))?;
        write!(f, "  {}", self.paint(BOLD, &event.as_deref().map_or("no event".into(), |event| plain(event, 40))))?;
        if let Some(submission) = submission {
            write!(f, "  submission {}", plain(submission, 40))?;
        }
        write!(f, "  webhook {}", webhook_id.as_deref().map_or("none".into(), |id| plain(id, 12)))?;
        if let Some(attempt) = attempt {
            write!(f, "  attempt {attempt}")?;
        }
        match self.line.signature {
            "verified" => write!(f, "  signature {}", self.paint(GREEN, "verified"))?,
            "unchecked" => {}
            wrong => write!(f, "  signature {}", self.paint(RED, &wrong.to_uppercase()))?,
        }
        if self.line.duplicate {
            write!(f, "  {}", self.paint(YELLOW, "duplicate"))?;
        }
        let colour = match self.line.status {
            Some(200..=299) => GREEN,
            Some(300..=499) => YELLOW,
            Some(_) | None => RED,
        };
        write!(f, "  -> {}", self.paint(colour, &self.line.reply))?;
        match &self.line.body {
            Some(body) => write!(f, "\n    {}", plain(body, usize::MAX)),
            None => Ok(()),
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// At most `limit` characters, with blanks for control characters.
fn plain(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

#[cfg(test)]
mod tests;
