//! `leadhook targets`: asks the admin port of a running worker for the state of each target.

use std::cmp::Reverse;

use super::{
    arguments::Output,
    health,
    output::{self, Exit, Refusal, Terminal, Tone, after_help},
    table::{Cell, Table},
};
use crate::{
    limits::{State, View},
    settings::Settings,
};

/// Show how a running worker does with each target: limits, attempts in flight, deferred jobs
///
/// One line is one organization's attempts to one URL origin (scheme, host and port), which share a limit. Asks the worker
/// at admin.listen, which knows only its own attempts. Targets without a job in the last ten minutes are not listed.
#[derive(clap::Args, Debug)]
#[command(after_help = after_help("leadhook targets\nleadhook targets --troubled --json", ""))]
pub struct Args {
    /// Only targets that are not healthy, or that have deferred jobs
    #[arg(long)]
    troubled: bool,
    #[command(flatten)]
    output: Output,
}

/// Asks the worker and prints a table, circuits in trouble first.
///
/// # Errors
/// No worker answers, or the worker has another version.
pub async fn run(args: &Args, settings: &Settings) -> Result<Exit, Refusal> {
    let asked = health::ask_worker(settings, "/targets").await;
    let (status, body) = asked.map_err(|why| Refusal::cannot_start(why, health::START_ONE))?;
    let circuits: Option<Vec<View>> = (status == 200).then(|| serde_json::from_str(&body).ok()).flatten();
    let circuits = circuits.ok_or_else(|| {
        let text = format!("cannot read the answer of the worker: {} (admin.listen)", settings.admin.listen);
        Refusal::cannot_start(text, "use the leadhook of the same version as the worker")
    })?;
    let circuits = in_order(circuits, args.troubled);
    let printed = match args.output.json {
        true => output::print_json(&circuits),
        false => output::print(text(&circuits, args.output.terminal())),
    };
    printed.map_err(|error| Refusal::unwritable(&error))?;
    Ok(Exit::Ok)
}

/// Sorts the circuits: those in trouble first, then those with the most deferred jobs. `troubled` drops healthy ones
/// without deferred jobs.
fn in_order(mut circuits: Vec<View>, troubled: bool) -> Vec<View> {
    if troubled {
        circuits.retain(|circuit| circuit.deferred > 0 || circuit.state != State::Healthy);
    }
    circuits.sort_by_cached_key(|circuit| {
        (Reverse(circuit.state as u8), Reverse(circuit.deferred), circuit.organization.clone(), circuit.origin.clone())
    });
    circuits
}

fn text(circuits: &[View], terminal: Terminal) -> String {
    if circuits.is_empty() {
        return "no targets to show: this worker has had no job in the last ten minutes".to_owned();
    }
    let headings = ["organization", "origin", "state", "in flight", "limit", "answers/s", "deferred", "not before"];
    let mut table = Table::new(terminal, &headings);
    for circuit in circuits {
        let tone = match circuit.state {
            State::Healthy => Tone::Good,
            State::Limited => Tone::Quiet,
            State::Failing | State::Paused => Tone::Bad,
        };
        let pause = circuit.paused_for_seconds;
        table.row([
            Cell::text(output::printable(&circuit.organization)),
            Cell::text(output::printable(&circuit.origin)),
            Cell::text(circuit.state.label()).tone(tone),
            Cell::number(circuit.in_flight),
            Cell::number(circuit.limit),
            Cell::number(format!("{:.1}", circuit.answers_per_second)),
            Cell::number(circuit.deferred),
            Cell::number(if pause > 0 { format!("{pause} s") } else { "-".to_owned() }),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(organization: &str, state: State, deferred: u64, pause: u64) -> View {
        View {
            organization: organization.to_owned(),
            origin: "https://crm.example".to_owned(),
            state,
            in_flight: 3,
            limit: 64,
            answers_per_second: 12.34,
            deferred,
            paused_for_seconds: pause,
            answers: true,
            cause: None,
        }
    }

    #[test]
    fn those_in_trouble_come_first() {
        let circuits = vec![
            circuit("good", State::Healthy, 0, 0),
            circuit("slow", State::Healthy, 7, 0),
            circuit("dead", State::Failing, 9, 0),
            circuit("full", State::Paused, 1, 60),
        ];
        let names = |circuits: Vec<View>| circuits.into_iter().map(|circuit| circuit.organization).collect::<Vec<_>>();
        assert_eq!(names(in_order(circuits.clone(), false)), ["full", "dead", "slow", "good"]);
        assert_eq!(names(in_order(circuits, true)), ["full", "dead", "slow"]);
    }

    #[test]
    fn the_table_reads_well() {
        let circuits = [circuit("full", State::Paused, 1, 60), circuit("good", State::Healthy, 0, 0)];
        let table = text(&circuits, Terminal::plain());
        let rows: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
            .collect();
        assert_eq!(rows[1], ["full", "https://crm.example", "paused", "3", "64", "12.3", "1", "60 s"]);
        assert_eq!(rows[2].last(), Some(&"-"));
        assert!(text(&[], Terminal::plain()).starts_with("no targets"));
    }
}
