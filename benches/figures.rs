//! Turns the runs of a case into the lines of the table: medians, ratios, and whether they meet their bars.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

/// One measured value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The metric, such as `deliveries`.
    pub metric: &'static str,
    /// Its unit, such as `1/s`.
    pub unit: &'static str,
    /// The value.
    pub value: f64,
}

/// Creates a sample.
pub fn sample(metric: &'static str, unit: &'static str, value: f64) -> Sample {
    Sample { metric, unit, value }
}

/// The range that a figure must be in.
#[derive(Clone, Copy, Debug)]
enum Bar {
    AtLeast(f64),
    AtMost(f64),
    Between(f64, f64),
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Bar::AtLeast(least) => value >= least,
            Bar::AtMost(most) => value <= most,
            Bar::Between(least, most) => (least..=most).contains(&value),
        }
    }

    fn text(self) -> String {
        match self {
            Bar::AtLeast(least) => format!(">= {least}"),
            Bar::AtMost(most) => format!("<= {most}"),
            Bar::Between(least, most) => format!("{least} to {most}"),
        }
    }
}

/// One line of the table: a metric of one variant, by itself or as a ratio to the same metric of another variant.
#[derive(Clone, Debug)]
pub struct Figure {
    metric: &'static str,
    variant: &'static str,
    against: Option<&'static str>,
    bar: Option<Bar>,
}

impl Figure {
    /// Takes the median of a metric over all runs of a variant.
    pub fn of(metric: &'static str, variant: &'static str) -> Figure {
        Figure { metric, variant, against: None, bar: None }
    }

    /// Compares with another variant: the median of the ratios of all rounds. The runs of one round follow each other.
    pub fn against(self, variant: &'static str) -> Figure {
        Figure { against: Some(variant), ..self }
    }

    /// Sets a minimum as the bar.
    pub fn at_least(self, least: f64) -> Figure {
        Figure { bar: Some(Bar::AtLeast(least)), ..self }
    }

    /// Sets a maximum as the bar.
    pub fn at_most(self, most: f64) -> Figure {
        Figure { bar: Some(Bar::AtMost(most)), ..self }
    }

    /// Sets a range as the bar.
    pub fn between(self, least: f64, most: f64) -> Figure {
        Figure { bar: Some(Bar::Between(least, most)), ..self }
    }
}

/// All runs of one case: metrics by variant, with one value for each round. NaN marks a round without a value.
#[derive(Default)]
pub struct Runs {
    rounds: Vec<BTreeMap<(&'static str, &'static str), f64>>,
    units: BTreeMap<&'static str, &'static str>,
}

/// One line of the table, evaluated.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The case.
    pub case: &'static str,
    /// The metric, and the variant or the two variants that it compares.
    pub figure: String,
    /// The unit, or `ratio`.
    pub unit: &'static str,
    /// Median of all rounds. `None` if no round has a value.
    pub median: Option<f64>,
    /// The values of all rounds that have one.
    pub rounds: Vec<f64>,
    /// The bar, in words.
    pub bar: Option<String>,
    /// Whether the median meets the bar. `None` without a bar or a value, or in a quick run.
    pub met: Option<bool>,
}

impl Runs {
    /// Begins the next round, to which the following samples belong.
    pub fn next_round(&mut self) {
        self.rounds.push(BTreeMap::new());
    }

    /// Adds a run of a variant to the current round.
    pub fn add(&mut self, variant: &'static str, samples: Vec<Sample>) {
        for Sample { metric, unit, value } in samples {
            self.units.insert(metric, unit);
            if let Some(round) = self.rounds.last_mut() {
                round.insert((metric, variant), value);
            }
        }
    }

    /// Evaluates a figure. In a quick run, no bar is judged.
    pub fn row(&self, case: &'static str, figure: &Figure, is_judged: bool) -> Row {
        let value = |round: &BTreeMap<_, f64>| {
            let own = *round.get(&(figure.metric, figure.variant))?;
            match figure.against {
                None => Some(own),
                Some(other) => Some(own / round.get(&(figure.metric, other))?),
            }
        };
        let rounds: Vec<f64> = self.rounds.iter().filter_map(value).filter(|value| value.is_finite()).collect();
        let median = median(&rounds);
        let bar = figure.bar.filter(|_| is_judged);
        Row {
            case,
            figure: match figure.against {
                None => format!("{}, {}", figure.metric, figure.variant),
                Some(other) => format!("{}, {} / {other}", figure.metric, figure.variant),
            },
            unit: match figure.against {
                None => self.units.get(figure.metric).copied().unwrap_or_default(),
                Some(_) => "ratio",
            },
            median,
            rounds,
            bar: figure.bar.map(Bar::text),
            met: bar.zip(median).map(|(bar, median)| bar.is_met(median)),
        }
    }
}

/// Returns the middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Formats the table as plain text in columns, which is also Markdown. `-` marks a value that was not measured, or a
/// missing bar.
pub fn table(rows: &[Row]) -> String {
    let dash = || "-".to_owned();
    let mut lines = vec![["case", "figure", "unit", "median", "range", "bar", "met"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let least = row.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = row.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        [
            row.case.to_owned(),
            row.figure.clone(),
            if row.unit.is_empty() { dash() } else { row.unit.to_owned() },
            row.median.map_or_else(dash, number),
            if row.rounds.len() < 2 { dash() } else { format!("{} to {}", number(least), number(most)) },
            row.bar.clone().unwrap_or_else(dash),
            row.met.map_or_else(dash, |met| if met { "yes".to_owned() } else { "NO".to_owned() }),
        ]
    }));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if n == 0 {
            text.push_str(&format!("| {} |\n", widths.map(|width| "-".repeat(width)).join(" | ")));
        }
    }
    text
}

/// Formats three significant digits, or all digits before the point if there are more.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes the table for other programs, as a JSON array with an object for each line.
pub fn write(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(fs::write(path, serde_json::to_string_pretty(rows)? + "\n")?)
}
