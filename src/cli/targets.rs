//! `leadhook targets`: how a running worker gets on with each target, asked of its admin port.

use std::cmp::Reverse;

use super::{
    health,
    output::{self, Cell, Exit, Refusal, Table, Terminal, Tone},
};
use crate::{
    fairness::{Standing, View},
    settings::Settings,
};

/// Show how a running worker gets on with each target: its limit, its attempts in flight, and the jobs it has parked.
///
/// What is limited together is one organization's attempts to one URL origin (scheme, host and port). Shown is the worker on
/// admin.listen, which knows of its own attempts only; targets that it has had no job for in the last ten minutes are not there.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Leave out those that stand open and have nothing parked
    #[arg(long)]
    troubled: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Asks, and prints a table, those in trouble first.
///
/// # Errors
/// No worker answers, or it is of another version.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let (status, body) = health::ask_worker(settings, "/targets").await.map_err(Refusal::cannot_start)?;
    let lanes: Option<Vec<View>> = (status == 200).then(|| serde_json::from_str(&body).ok()).flatten();
    let lanes =
        lanes.ok_or_else(|| Refusal::cannot_start("the worker is of another version: its answer is not known"))?;
    let lanes = in_order(lanes, args.troubled);
    let printed = match args.json {
        true => output::print_json(&lanes),
        false => output::print(text(&lanes, Terminal::detect())),
    };
    printed.map_err(|error| Refusal::cannot_start(format!("cannot write the answer: {error}")))?;
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
        return "no targets to show: this worker has had no jobs for any lately".to_owned();
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
