//! *stores*: small and large webhook stores, each in a process of its own. How long do they take to load, and what do they hold?

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{anyhow, ensure};
use leadhook::{event::EventKind, settings, store};
use serde::{Deserialize, Serialize};

use super::{Case, Scale, Variant};
use crate::{
    rig::process,
    summary::{Sample, sample},
};

/// What a subprocess is told.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    /// The store
    #[arg(long)]
    path: PathBuf,
    /// How many campaigns it lists
    #[arg(long)]
    campaigns: usize,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    load_ms: f64,
    settled_mib: f64,
    peak_mib: f64,
    reload_peak_mib: f64,
    resolve_ns: f64,
}

/// The smallest one is the baseline.
pub fn case(scale: Scale) -> Case {
    let sizes: &[usize] = if scale.long { &[100, 10_000, 100_000] } else { &[100, 100_000] };
    let forms = sizes.iter().flat_map(|campaigns| ["yaml", "toml"].map(|format| (*campaigns, format)));
    let variant = |(campaigns, format)| {
        Variant::new(format!("{campaigns} campaigns, {format}"), move |_| {
            Box::pin(async move { in_a_process(campaigns, format) })
        })
    };
    Case { name: "stores", runs: [1, 5], variants: forms.map(variant).collect() }
}

fn in_a_process(campaigns: usize, format: &str) -> anyhow::Result<Vec<Sample>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(format!("store.{format}"));
    std::fs::write(&path, if format == "yaml" { yaml(campaigns) } else { toml(campaigns) })?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("store").arg("--path").arg(&path).args(["--campaigns", &campaigns.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "a store of {campaigns} campaigns cannot be measured");
    let told: Told = serde_json::from_slice(&output.stdout)?;
    Ok(vec![
        sample("load", "ms", told.load_ms),
        sample("settled memory", "MiB", told.settled_mib),
        sample("peak memory", "MiB", told.peak_mib),
        sample("peak memory of a reload", "MiB", told.reload_peak_mib),
        sample("resolve", "ns", told.resolve_ns),
    ])
}

/// In the subprocess: loads, and says what it took.
pub fn measure(args: &StoreArgs) -> anyhow::Result<()> {
    let load = |path: &Path| {
        let secrets = settings::Secrets { environment_prefix: "WEBHOOK_".to_owned(), directory: None };
        store::load(path, &secrets).map_err(|problems| anyhow!("{problems}"))
    };
    let before = resident();
    let begun = Instant::now();
    let store = load(&args.path)?;
    let load_ms = begun.elapsed().as_secs_f64() * 1e3;
    let settled_mib = resident() - before;
    let peak_mib = process::usage(std::process::id()).peak;
    let names: Vec<_> = (0..args.campaigns).map(|n| format!("c{}", n * 7919 % args.campaigns)).collect();
    let begun = Instant::now();
    for n in 0..1_000_000 {
        black_box(store.resolve(&names[n % names.len()], None, EventKind::Delivered));
    }
    let resolve_ns = begun.elapsed().as_secs_f64() * 1e9 / 1e6;
    // As a running worker does it: the old one stays until the new one is there.
    let reloaded = load(&args.path)?;
    let reload_peak_mib = process::usage(std::process::id()).peak;
    black_box((&store, &reloaded));
    let told = Told { load_ms, settled_mib, peak_mib, reload_peak_mib, resolve_ns };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or_default() * 4096.0 / 1048576.0
}

/// A hundred campaigns to an organization; every other one has a webhook of its own.
fn yaml(campaigns: usize) -> String {
    let mut text = "organizations:\n".to_owned();
    for n in 0..campaigns {
        if n % 100 == 0 {
            let o = n / 100;
            text.push_str(&format!(
                "  org{o}:\n    webhook:\n      url: https://crm.org{o}.example/hooks/leads\n      events: [lead.delivered, lead.failed]\n      headers: {{ x-source: leads }}\n      timeout: 20\n    campaigns:\n"
            ));
        }
        match n % 2 {
            0 => text.push_str(&format!("      c{n}: {{}}\n")),
            _ => text.push_str(&format!(
                "      c{n}:\n        override: true\n        webhook:\n          url: https://hooks.example/in/{n}\n          events: [lead.delivered]\n          timeout: 10\n"
            )),
        }
    }
    text
}

fn toml(campaigns: usize) -> String {
    let mut text = String::new();
    for n in 0..campaigns {
        let o = n / 100;
        if n % 100 == 0 {
            text.push_str(&format!(
                "[organizations.org{o}.webhook]\nurl = \"https://crm.org{o}.example/hooks/leads\"\nevents = [\"lead.delivered\", \"lead.failed\"]\nheaders = {{ x-source = \"leads\" }}\ntimeout = 20\n"
            ));
        }
        match n % 2 {
            0 => text.push_str(&format!("[organizations.org{o}.campaigns.c{n}]\n")),
            _ => text.push_str(&format!(
                "[organizations.org{o}.campaigns.c{n}]\noverride = true\nwebhook = {{ url = \"https://hooks.example/in/{n}\", events = [\"lead.delivered\"], timeout = 10 }}\n"
            )),
        }
    }
    text
}
