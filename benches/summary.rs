//! From many runs to one line for each thing that was measured.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

/// One thing, measured once.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is measured, such as `deliveries`.
    pub metric: &'static str,
    /// In what, such as `1/s`.
    pub unit: &'static str,
    /// How much.
    pub value: f64,
}

/// Makes one.
pub fn sample(metric: &'static str, unit: &'static str, value: f64) -> Sample {
    Sample { metric, unit, value }
}

/// What all runs of one variant came to.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// Which form of it.
    pub variant: String,
    /// What was measured.
    pub metric: &'static str,
    /// In what.
    pub unit: &'static str,
    /// The middle one of all runs.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// How many.
    pub runs: usize,
    /// The variant that it is compared with; none for that variant itself.
    pub baseline: Option<String>,
    /// Median over the baseline's median.
    pub ratio: Option<f64>,
}

/// All runs of all variants of one case, in the order of the variants.
#[derive(Default)]
pub struct Runs {
    case: String,
    variants: Vec<String>,
    values: BTreeMap<(usize, usize), Vec<f64>>,
    metrics: Vec<(&'static str, &'static str)>,
}

impl Runs {
    /// Of a case; the first variant is the baseline of the others.
    pub fn new(case: &str, variants: &[String]) -> Runs {
        Runs { case: case.to_owned(), variants: variants.to_vec(), ..Runs::default() }
    }

    /// Adds one run of variant number `variant`.
    pub fn add(&mut self, variant: usize, samples: Vec<Sample>) {
        for Sample { metric, unit, value } in samples {
            let known = self.metrics.iter().position(|known| known.0 == metric);
            let at = known.unwrap_or_else(|| {
                self.metrics.push((metric, unit));
                self.metrics.len() - 1
            });
            self.values.entry((at, variant)).or_default().push(value);
        }
    }

    /// One row for each metric and variant.
    pub fn rows(&self) -> Vec<Row> {
        self.values.iter().map(|((metric, variant), values)| self.row(*metric, *variant, values)).collect()
    }

    fn row(&self, metric: usize, variant: usize, values: &[f64]) -> Row {
        let base = self.values.get(&(metric, 0)).filter(|_| variant > 0).map(|values| median(values));
        Row {
            case: self.case.clone(),
            variant: self.variants[variant].clone(),
            metric: self.metrics[metric].0,
            unit: self.metrics[metric].1,
            median: median(values),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            runs: values.len(),
            baseline: base.map(|_| self.variants[0].clone()),
            ratio: base.filter(|base| *base != 0.0).map(|base| median(values) / base),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The table, in columns of plain text that is Markdown too.
pub fn table(rows: &[Row]) -> String {
    let headings = ["case", "variant", "metric", "unit", "median", "min", "max", "runs", "ratio"].map(str::to_owned);
    let mut lines = vec![headings.to_vec()];
    lines.extend(rows.iter().map(|row| {
        vec![
            row.case.clone(),
            row.variant.clone(),
            row.metric.to_owned(),
            row.unit.to_owned(),
            number(row.median),
            number(row.min),
            number(row.max),
            row.runs.to_string(),
            row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        ]
    }));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<_> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, width))| if at < 4 { format!("{cell:width$}") } else { format!("{cell:>width$}") })
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if n == 0 {
            let rules: Vec<_> = widths
                .iter()
                .enumerate()
                .map(|(at, width)| if at < 4 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) })
                .collect();
            text.push_str(&format!("| {} |\n", rules.join(" | ")));
        }
    }
    text
}

/// Three significant digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes what programs read.
pub fn write(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(fs::write(path, serde_json::to_string_pretty(rows)? + "\n")?)
}
