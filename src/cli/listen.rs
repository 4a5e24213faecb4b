//! `leadhook listen`: a receiver to try deliveries with. It answers by a script and prints a line for each request.
//!
//! A line shows the event, the submission and the webhook-id, and nothing of `data`. Bodies are shown only on request.

mod line;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::line::{Line, Style};
use super::{
    arguments::{OUTPUT, number},
    output::{Colour, Exit, Refusal, after_help},
    readable::counted,
    verify::unusable_secret,
};
use crate::{
    delivery::signature::SigningSecret,
    os_error,
    receiver::{Options, Received, Receiver, Script},
};

const REPLIES: &str = "\
Replies of --respond, given in turn, and the last one from then on:
  200, 500, 410, 301 ...   that status (200 to 599); 3xx point back to this receiver
  429:7, 503:3             the status with a Retry-After of so many seconds
  hang                     no answer, the connection stays open
  drip                     200, then one byte every 200 ms
  endless, endless:200     500 (or that status), then bytes without end
  close                    the connection is closed without an answer
  reset                    half of a 200, then the connection is reset
  garbage                  bytes that are not HTTP
Each can be delayed (200@250ms) and repeated (500x3).";

/// Receive webhooks on this machine, and answer them by a script
///
/// Prints a line for each request, and a summary when SIGINT or SIGTERM ends it.
#[derive(clap::Args, Clone)]
#[command(after_help = format!("{REPLIES}\n\n{}", after_help(
    "leadhook listen --respond 500x2,429:7,200\n\
     leadhook listen --respond 500,200 --per-webhook\n\
     leadhook listen --name crm --brief --record crm.log",
    "the record or the output could not be written"
)))]
pub struct Args {
    /// Port to listen on; 0 picks a free one
    #[arg(short, long, default_value_t = 8080, value_parser = number(0..=u16::MAX))]
    pub port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS", value_parser = address)]
    pub bind: IpAddr,
    /// Replies, given in turn
    #[arg(short, long, default_value = "200", value_name = "REPLIES")]
    pub respond: Script,
    /// Start the replies again for each webhook-id
    #[arg(long)]
    pub per_webhook: bool,
    /// Signing secret (whsec_...) to verify with; repeat it for several, or separate them by commas
    #[arg(
        long = "secret",
        env = "LEADHOOK_LISTEN_SECRETS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "SECRET"
    )]
    pub secrets: Vec<String>,
    /// Print JSON, one object a line
    #[arg(short, long, help_heading = OUTPUT)]
    pub json: bool,
    /// Print only the first line and the summary
    #[arg(short, long, conflicts_with = "show_body", help_heading = OUTPUT)]
    pub quiet: bool,
    /// Print bodies too; they hold personal data
    #[arg(long, help_heading = OUTPUT)]
    pub show_body: bool,
    /// Name of this receiver, put before each line
    #[arg(long, value_name = "NAME", help_heading = OUTPUT)]
    pub name: Option<String>,
    /// Print shorter lines, for less than a hundred columns
    #[arg(long, conflicts_with_all = ["json", "quiet"], help_heading = OUTPUT)]
    pub brief: bool,
    /// Write the lines of --json to this file too, replacing its content
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub record: Option<PathBuf>,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Colour::Auto, help_heading = OUTPUT)]
    pub color: Colour,
}

/// Listens until SIGINT or SIGTERM, then prints a summary.
///
/// # Errors
/// A secret cannot be used, the address cannot be bound, or the record cannot be written. A closed output (`| head`)
/// ends the command without an error.
pub async fn run(args: Args) -> Result<Exit, Refusal> {
    let (bind, port) = (args.bind, args.port);
    let options = Options {
        bind,
        port,
        script: args.respond.clone(),
        per_webhook: args.per_webhook,
        secrets: parse_secrets(&args.secrets)?,
    };
    let record = args.record.as_deref().map(create).transpose()?;
    let deaf = |error: io::Error| {
        let text = format!("cannot listen for signals: {}", os_error::words(&error));
        Refusal::cannot_start(text, "raise the limits of this process")
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let receiver = Receiver::start(options).await.map_err(|error| {
        let text = format!("cannot listen: {bind} port {port}: {}", os_error::words(&error));
        Refusal::cannot_start(text, "choose another --port (0 picks a free one) or another --bind")
    })?;
    let mut log = Log::new(&args, io::stdout(), record);
    let mut alive = unless_closed(log.listening(&receiver.url()))?;
    while alive {
        let arrived = tokio::select! {
            arrived = receiver.take() => arrived,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        alive = unless_closed(log.requests(&arrived))?;
    }
    let rest = receiver.received();
    receiver.shutdown().await;
    if alive {
        unless_closed(log.requests(&rest).and_then(|()| log.summary()))?;
    }
    Ok(Exit::Ok)
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "write an IP address such as 127.0.0.1, 0.0.0.0 or ::1".to_owned())
}

fn create(path: &Path) -> Result<File, Refusal> {
    File::create(path).map_err(|error| {
        let text = format!("cannot write the record: {}: {}", path.display(), os_error::words(&error));
        Refusal::usage(text, "name a file in a directory that this user may write to")
    })
}

fn parse_secrets(texts: &[String]) -> Result<Vec<SigningSecret>, Refusal> {
    let parse = |(index, text): (usize, &String)| {
        SigningSecret::parse(text.trim()).map_err(|error| unusable_secret(index, &error))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// Returns whether the output is still open. Any other problem is an error.
fn unless_closed(written: io::Result<()>) -> Result<bool, Refusal> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Refusal::unwritable(&error)),
    }
}

/// Prints, records and counts requests.
struct Log<W, R = File> {
    out: W,
    /// Receives every line as JSON, printed or not.
    record: Option<R>,
    json: bool,
    quiet: bool,
    show_body: bool,
    style: Style,
    counts: Summary,
    /// Each webhook-id, and whether it has been answered with 2xx.
    seen: HashMap<String, bool>,
}

/// Counts over the whole run of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Summary {
    /// All requests.
    requests: u64,
    /// Distinct webhook-ids.
    webhooks: u64,
    /// Webhooks that were answered with 2xx.
    delivered: u64,
    /// Requests for a webhook that had already been answered with 2xx.
    duplicates: u64,
    /// Requests with a bad or missing signature, if there are secrets to check with.
    bad_signatures: u64,
}

impl<W: Write, R: Write> Log<W, R> {
    fn new(args: &Args, out: W, record: Option<R>) -> Log<W, R> {
        let style = Style { colour: args.color.wanted(), brief: args.brief, name: args.name.clone() };
        let Args { json, quiet, show_body, .. } = *args;
        Log { out, record, json, quiet, show_body, style, counts: Summary::default(), seen: HashMap::new() }
    }

    fn listening(&mut self, url: &str) -> io::Result<()> {
        let json = serde_json::json!({ "type": "listening", "url": url });
        let text = format!("{}listening on {url}", self.style.prefix());
        self.tell(&[(json.to_string(), text)], false)
    }

    /// Counts and prints the requests that have arrived, with one write for all.
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

    /// Records lines, and prints them as JSON or text unless they are hidden.
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

    /// Counts a request. Returns whether its webhook had already been answered with 2xx.
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

#[cfg(test)]
mod tests;
