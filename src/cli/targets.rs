//! `leadhook targets`: the state of each target in a running worker, asked of its admin port.

use std::cmp::Reverse;

use super::{
    arguments::Output,
    health,
    output::{self, Cell, Exit, Refusal, Table, Terminal, Tone, after_help},
};
use crate::{
    fairness::{Standing, View},
    settings::Settings,
};

/// Show how a running worker does with each target: limits, attempts in flight, parked jobs
///
/// One line is one organization's attempts to one URL origin (scheme, host and port), which share a limit. Asks the worker
/// at admin.listen, which knows only its own attempts. Targets without a job in the last ten minutes are not listed.
#[derive(clap::Args, Debug)]
#[command(after_help = after_help("leadhook targets\nleadhook targets --troubled --json", ""))]
pub struct Args {
    /// Only targets that are not open, or that have parked jobs
    #[arg(long)]
    troubled: bool,
    #[command(flatten)]
    output: Output,
}

/// Asks, and prints a table, those in trouble first.
///
/// # Errors
/// No worker answers, or it is of another version.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let asked = health::ask_worker(settings, "/targets").await;
    let (status, body) = asked.map_err(|why| Refusal::cannot_start(why, health::START_ONE))?;
    let lanes: Option<Vec<View>> = (status == 200).then(|| serde_json::from_str(&body).ok()).flatten();
    let lanes = lanes.ok_or_else(|| {
        let text = format!("cannot read the answer of the worker: {} (admin.listen)", settings.admin.listen);
        Refusal::cannot_start(text, "use the leadhook of the same version as the worker")
    })?;
    let lanes = in_order(lanes, args.troubled);
    let printed = match args.output.json {
        true => output::print_json(&lanes),
        false => output::print(text(&lanes, args.output.terminal())),
    };
    printed.map_err(|error| Refusal::unwritable(&error))?;
    Ok(Exit::Ok)
}

/// Those in trouble first, then those with most parked.
fn in_order(mut lanes: Vec<View>, troubled: bool) -> Vec<View> {
    if troubled {
        lanes.retain(|lane| lane.parked > 0 || lane.standing != Standing::Open.label());
    }
    let trouble = |lane: &View| Standing::ALL.iter().position(|standing| standing.label() == lane.standing);
    lanes.sort_by_cached_key(|lane| {
        (Reverse(trouble(lane)), Reverse(lane.parked), lane.organization.clone(), lane.origin.clone())
    });
    lanes
}

fn text(lanes: &[View], terminal: Terminal) -> String {
    if lanes.is_empty() {
        return "no targets to show: this worker has had no job in the last ten minutes".to_owned();
    }
    let headings = ["organization", "origin", "standing", "in flight", "limit", "answers/s", "parked", "not before"];
    let mut table = Table::new(terminal, &headings);
    for lane in lanes {
        let tone = match lane.standing.as_str() {
            "open" => Tone::Good,
            "limited" => Tone::Quiet,
            _ => Tone::Bad,
        };
        let pause = lane.pushed_back_for_seconds;
        table.row([
            Cell::text(output::printable(&lane.organization)),
            Cell::text(output::printable(&lane.origin)),
            Cell::text(&lane.standing).tone(tone),
            Cell::number(lane.in_flight),
            Cell::number(lane.limit),
            Cell::number(format!("{:.1}", lane.answers_per_second)),
            Cell::number(lane.parked),
            Cell::number(if pause > 0 { format!("{pause} s") } else { "-".to_owned() }),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(organization: &str, standing: Standing, parked: u64, pause: u64) -> View {
        View {
            organization: organization.to_owned(),
            origin: "https://crm.example".to_owned(),
            standing: standing.label().to_owned(),
            in_flight: 3,
            limit: 64,
            answers_per_second: 12.34,
            parked,
            pushed_back_for_seconds: pause,
        }
    }

    #[test]
    fn those_in_trouble_come_first() {
        let lanes = vec![
            lane("good", Standing::Open, 0, 0),
            lane("slow", Standing::Open, 7, 0),
            lane("dead", Standing::Probing, 9, 0),
            lane("full", Standing::PushedBack, 1, 60),
        ];
        let names = |lanes: Vec<View>| lanes.into_iter().map(|lane| lane.organization).collect::<Vec<_>>();
        assert_eq!(names(in_order(lanes.clone(), false)), ["full", "dead", "slow", "good"]);
        assert_eq!(names(in_order(lanes, true)), ["full", "dead", "slow"]);
    }

    #[test]
    fn the_table_reads_well() {
        let lanes = [lane("full", Standing::PushedBack, 1, 60), lane("good", Standing::Open, 0, 0)];
        let table = text(&lanes, Terminal::plain());
        let rows: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[1], ["full", "https://crm.example", "pushed_back", "3", "64", "12.3", "1", "60 s"]);
        assert_eq!(rows[2].last(), Some(&"-"));
        assert!(text(&[], Terminal::plain()).starts_with("no targets"));
    }
}
