//! The cases, and the program that runs their variants in turn.

mod drain;
mod latency;
mod memory;
mod neighbours;
mod parking;
mod recovery;

use std::{
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::future::LocalBoxFuture;

use crate::{
    rig::Broker,
    summary::{self, Row, Runs, Sample},
};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only these cases, or those that begin so, separated by commas
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// The long form: more runs, larger backlogs, longer outages; one to two hours
    #[arg(long)]
    long: bool,
    /// How often each variant is run [default: what the form says]
    #[arg(long)]
    runs: Option<usize>,
}

/// How large a case is made.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The long form.
    pub long: bool,
}

/// One form of a case.
pub struct Variant {
    /// Its name.
    pub name: String,
    run: Box<Run>,
}

/// Runs it once on a broker.
type Run = dyn for<'b> Fn(&'b Broker) -> LocalBoxFuture<'b, anyhow::Result<Vec<Sample>>>;

impl Variant {
    /// Makes one.
    pub fn new(
        name: impl Into<String>,
        run: impl for<'b> Fn(&'b Broker) -> LocalBoxFuture<'b, anyhow::Result<Vec<Sample>>> + 'static,
    ) -> Variant {
        Variant { name: name.into(), run: Box::new(run) }
    }
}

/// One case: its variants, the first of which is the baseline of the others.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// In the short form, and in the long one.
    pub runs: [usize; 2],
    /// Its forms.
    pub variants: Vec<Variant>,
}

/// Run by name only: how the ceiling was found, and what parking costs.
const BY_NAME: [&str; 2] = ["ceiling", "parking"];

/// Runs them, prints the table as it grows, and writes it down.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let scale = Scale { long: args.long };
    let all = all(scale);
    let names: Vec<_> = all.iter().map(|case| case.name).collect();
    let none_begins_so = |wanted: &&String| !names.iter().any(|name| name.starts_with(wanted.as_str()));
    if let Some(unknown) = args.cases.iter().find(none_begins_so) {
        bail!("there is no case {unknown}: they are {}", names.join(", "));
    }
    let begun = Instant::now();
    let machine = machine();
    eprintln!("{machine}");
    let broker = Broker::start().context("the private RabbitMQ")?;
    let mut rows: Vec<Row> = Vec::new();
    let wanted = |name: &str| match args.cases.is_empty() {
        true => !BY_NAME.contains(&name),
        false => args.cases.iter().any(|wanted| name.starts_with(wanted.as_str())),
    };
    for case in all.iter().filter(|case| wanted(case.name)) {
        let times = args.runs.unwrap_or(case.runs[usize::from(args.long)]);
        rows.extend(run_case(case, times, &broker, begun).await?);
        // What is done is not lost with what comes after it.
        summary::write(Path::new("target/bench/latest.json"), &rows)?;
    }
    let version = broker.ctl(&["version"]).unwrap_or_default();
    println!("{machine}; RabbitMQ {}; {} s\n", version.trim(), begun.elapsed().as_secs());
    println!("{}", summary::table(&rows));
    Ok(())
}

fn all(scale: Scale) -> Vec<Case> {
    let mut cases = vec![drain::case(scale)];
    cases.extend(latency::cases(scale));
    cases.extend([neighbours::case(scale), recovery::case(scale), memory::case(scale)]);
    cases.extend([parking::case(scale), drain::layouts(scale)]);
    cases
}

async fn run_case(case: &Case, times: usize, broker: &Broker, begun: Instant) -> anyhow::Result<Vec<Row>> {
    let names: Vec<_> = case.variants.iter().map(|variant| variant.name.clone()).collect();
    let mut runs = Runs::new(case.name, &names);
    for time in 0..times {
        for n in 0..case.variants.len() {
            // Another one is first each time, so that none always runs on a broker that has just rested.
            let n = (n + time) % case.variants.len();
            let variant = &case.variants[n];
            progress(&format!(
                "{:>4} s  {}  {}  {}/{times}",
                begun.elapsed().as_secs(),
                case.name,
                variant.name,
                time + 1
            ));
            let samples = (variant.run)(broker).await.with_context(|| format!("{}, {}", case.name, variant.name))?;
            runs.add(n, samples);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    Ok(runs.rows())
}

/// On a terminal one line that is written over, elsewhere a line each.
fn progress(text: &str) {
    let mut out = std::io::stderr();
    let _ = match out.is_terminal() {
        true => write!(out, "\r\u{1b}[K{text}"),
        false => writeln!(out, "{text}"),
    };
    let _ = out.flush();
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!("{cores} cores, Linux {}, load before the start {load}", kernel.trim())
}
