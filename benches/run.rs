//! The program that runs the variants of each case in turn and prints the table.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use leadhook::{settings, store};

use crate::{
    case::{Case, Scale, Variant},
    cases,
    figures::{self, Row, Runs, Sample},
    rig::Broker,
};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only these cases, or those whose names begin like this, separated by commas
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Rounds of each case [default: 5 if a round takes seconds, 1 if it takes minutes]
    #[arg(long)]
    runs: Option<usize>,
    /// A tenth of the time and of the events, to see that the cases work; bars are not judged
    #[arg(long)]
    quick: bool,
}

/// Runs the cases and prints the table. After each case it writes `target/bench/latest.json`.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let all = cases::all(Scale { quick: args.quick });
    let names: Vec<_> = all.iter().map(|case| case.name).collect();
    let matches = |name: &str, wanted: &String| name.starts_with(wanted.as_str());
    if let Some(unknown) = args.cases.iter().find(|wanted| !names.iter().any(|name| matches(name, wanted))) {
        bail!("there is no case {unknown}: they are {}", names.join(", "));
    }
    let is_wanted = |name: &str| match args.cases.is_empty() {
        true => name != cases::BY_NAME,
        false => args.cases.iter().any(|wanted| matches(name, wanted)),
    };
    let begun = Instant::now();
    let machine = machine();
    eprintln!("{machine}");
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for case in all.iter().filter(|case| is_wanted(case.name)) {
        rows.extend(run_case(case, &args, begun, &mut notes).await?);
        figures::write(Path::new("target/bench/latest.json"), &rows)?;
    }
    println!("{machine}; {} s\n\n{}", begun.elapsed().as_secs(), figures::table(&rows));
    notes.iter().for_each(|note| println!("{note}"));
    Ok(())
}

/// Runs all rounds of one case on its own broker. A variant that fails is not run again, and a note says why.
async fn run_case(case: &Case, args: &Args, begun: Instant, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let mut runs = Runs::default();
    let unknown = match case.needs {
        Some(key) if !store_knows(key)? => Some(key),
        Some(_) | None => None,
    };
    if let Some(key) = unknown {
        notes.push(format!("{}: cannot run yet: the webhook store of this build does not know `{key}`", case.name));
    }
    let mut variants: Vec<&Variant> = if unknown.is_some() { Vec::new() } else { case.variants.iter().collect() };
    let rounds = if variants.is_empty() { 0 } else { args.runs.unwrap_or(case.runs) };
    let mut broker = None;
    for round in 0..rounds {
        runs.next_round();
        // Each round begins with another variant, so that none always runs on a broker that has just rested.
        let count = variants.len().max(1);
        variants.rotate_left(round.min(1) % count);
        for variant in variants.clone() {
            progress(&format!(
                "{:>4} s  {}, {}, {}/{rounds}",
                begun.elapsed().as_secs(),
                case.name,
                variant.name,
                round + 1
            ));
            let on = match broker.take() {
                Some(broker) => broker,
                None => Broker::start().context("the private RabbitMQ")?,
            };
            match run_variant(case, variant, &on).await {
                Ok(samples) => {
                    runs.add(variant.name, samples);
                    broker = Some(on);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                // Its remains disappear with its broker.
                Err(error) => {
                    // Some errors list all settings.
                    let error: String = format!("{error:#}").chars().take(200).collect();
                    notes.push(format!("{}, {}: {error}", case.name, variant.name));
                    variants.retain(|other| other.name != variant.name);
                }
            }
        }
    }
    Ok(case.figures.iter().map(|figure| runs.row(case.name, figure, !args.quick)).collect())
}

async fn run_variant(case: &Case, variant: &Variant, broker: &Broker) -> anyhow::Result<Vec<Sample>> {
    let run = tokio::time::timeout(case.at_most, variant.run(broker)).await;
    run.with_context(|| format!("it took longer than {:?}", case.at_most))?
}

/// Returns whether a webhook may have this key. It tries the key with the value 10.
fn store_knows(key: &str) -> anyhow::Result<bool> {
    let secrets = settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
    let load = |more: &str| {
        let webhook = format!("{{ url: \"https://crm.example/in\", events: \"*\"{more} }}");
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        std::fs::write(file.path(), format!("organizations: {{ o: {{ webhook: {webhook} }} }}\n"))?;
        anyhow::Ok(store::load(file.path(), &secrets))
    };
    // Without this check, a store that is refused for another reason would look like a build without the key.
    load("")?.map_err(|problems| anyhow::anyhow!("the store to try keys with is refused: {problems}"))?;
    Ok(load(&format!(", {key}: 10"))?.is_ok())
}

/// Shows progress: one line that is overwritten on a terminal, one line each elsewhere.
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
