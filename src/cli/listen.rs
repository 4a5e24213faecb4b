//! `leadhook listen`: a receiver to try deliveries with. It answers by a script and prints a line for each request.
//!
//! Lines name event, submission and webhook-id, and never what is in `data`: the body is shown only on request.

mod line;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::line::{Line, Style};
use crate::{
    delivery::signature::SigningSecret,
    logging,
    receiver::{Options, Received, Receiver, Script},
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
  reset                    half of a 200, then the connection is reset
  garbage                  bytes that are no HTTP
Each can be delayed (200@250ms) and repeated (500x3).

Examples:
  leadhook listen --respond 500x2,429:7,200
  leadhook listen --respond 500,200 --per-webhook      every delivery fails once
  leadhook listen --name crm --brief --record crm.log  several receivers share a terminal, each keeps its own record")]
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
    /// Name of this receiver, put before each line
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print shorter lines, for less than a hundred columns
    #[arg(long, conflicts_with_all = ["json", "quiet"])]
    pub brief: bool,
    /// Write what --json prints to this file as well; what stood in it is gone
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Listens until SIGINT or SIGTERM, then prints a summary.
///
/// # Errors
/// When a secret cannot be used, the address cannot be bound, or the record cannot be written. Output that nobody reads any more (`| head`) ends it
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
    let record = args
        .record
        .as_deref()
        .map(|path| File::create(path).with_context(|| format!("cannot write the record {}", path.display())));
    let record = record.transpose()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let receiver = Receiver::start(options).await.with_context(|| format!("cannot listen on {bind} port {port}"))?;
    let mut log = Log::new(&args, io::stdout(), record);
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

/// What is printed and recorded, and what has been counted.
struct Log<W, R = File> {
    out: W,
    /// Gets every line as JSON, printed or not.
    record: Option<R>,
    json: bool,
    quiet: bool,
    show_body: bool,
    style: Style,
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

impl<W: Write, R: Write> Log<W, R> {
    fn new(args: &ListenArgs, out: W, record: Option<R>) -> Log<W, R> {
        let colour = io::stdout().is_terminal() && !logging::no_color();
        let style = Style { colour, brief: args.brief, name: args.name.clone() };
        let ListenArgs { json, quiet, show_body, .. } = *args;
        Log { out, record, json, quiet, show_body, style, counts: Summary::default(), seen: HashMap::new() }
    }

    fn listening(&mut self, url: &str) -> io::Result<()> {
        let json = serde_json::json!({ "type": "listening", "url": url });
        let text = format!("{}listening on {url}", self.style.prefix());
        self.tell(&[(json.to_string(), text)], false)
    }

    /// Counts and tells what has arrived, with one write for all.
    fn requests(&mut self, arrived: &[Arc<Received>]) -> io::Result<()> {
        let mut lines = Vec::with_capacity(arrived.len());
        for received in arrived {
            let duplicate = self.count(received);
            let line = Line::new(self.style.name.as_deref(), received, duplicate, self.show_body);
            lines.push((serde_json::to_string(&line)?, self.style.show(&line)));
        }
        self.tell(&lines, self.quiet)
    }

    fn summary(&mut self) -> io::Result<()> {
        let Summary { requests, webhooks, delivered, duplicates, bad_signatures } = self.counts;
        let json = serde_json::json!({ "type": "summary", "summary": self.counts });
        let counted = [
            counted(requests, "request", "requests"),
            counted(webhooks, "webhook", "webhooks"),
            format!("{delivered} delivered"),
            counted(duplicates, "duplicate", "duplicates"),
            counted(bad_signatures, "bad or missing signature", "bad or missing signatures"),
        ];
        let before = if self.style.name.is_some() { self.style.prefix() } else { "\n".to_owned() };
        self.tell(&[(json.to_string(), format!("{before}{}", counted.join(", ")))], false)
    }

    /// Prints lines (as JSON, as text) unless nobody wants to see them, and records them in any case.
    fn tell(&mut self, lines: &[(String, String)], hidden: bool) -> io::Result<()> {
        let all = |pick: fn(&(String, String)) -> &String| -> String {
            lines.iter().flat_map(|line| [pick(line), "\n"]).collect()
        };
        if let Some(record) = &mut self.record {
            record.write_all(all(|(json, _)| json).as_bytes())?;
            record.flush()?;
        }
        if hidden {
            return Ok(());
        }
        let text = if self.json { all(|(json, _)| json) } else { all(|(_, text)| text) };
        self.out.write_all(text.as_bytes())?;
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

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;
