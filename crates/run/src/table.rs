//! The comparison as text, rendered from stored records alone.

use vxf_core::metric::Better;

use crate::grid::Grid;
use crate::plan::Plan;
use crate::record::{Record, Row};
use crate::statistics::Summary;

/// A column: which figure, under which header, with how many decimals.
struct Column {
    metric: &'static str,
    figure: &'static str,
    header: &'static str,
    decimals: usize,
    /// Whether it says something about a model that no user has touched yet.
    of_aligned: bool,
}

const COLUMNS: [Column; 6] = [
    column("harmful-score", "harmful_score", "HS %", 1, true),
    column("harmful-score", "refusal_margin", "refusal margin", 2, true),
    column("accuracy", "accuracy", "FA %", 1, true),
    column("alignment-loss", "alignment_loss", "alignment loss", 3, true),
    column("drift", "drift", "drift", 2, false),
    column("drift", "relative_drift", "relative drift", 3, false),
];

const fn column(
    metric: &'static str,
    figure: &'static str,
    header: &'static str,
    decimals: usize,
    of_aligned: bool,
) -> Column {
    Column { metric, figure, header, decimals, of_aligned }
}

/// All records of an experiment, ready to be asked.
pub(crate) struct Figures<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) records: &'a [Record],
}

impl Figures<'_> {
    /// The figure of `label` at `ratio` for each seed that has it, in the plan's order.
    fn by_seed(&self, label: &str, ratio: Option<f64>, name: &str) -> Vec<(u64, f64)> {
        let of = |seed: &u64| {
            let record = self.find(label, ratio, *seed)?;
            Some((*seed, record.figure(name)?))
        };
        self.plan.seeds.iter().filter_map(of).collect()
    }

    fn find(&self, label: &str, ratio: Option<f64>, seed: u64) -> Option<&Record> {
        let is = |record: &&Record| {
            record.label == label && record.ratio == ratio && record.seed == seed
        };
        self.records.iter().find(is)
    }

    pub(crate) fn summary(&self, label: &str, ratio: Option<f64>, name: &str) -> Option<Summary> {
        let values = self.by_seed(label, ratio, name).into_iter().map(|(_, value)| value);
        Summary::of(&values.collect::<Vec<_>>())
    }

    /// The differences `label - baseline` over the seeds that both have.
    fn paired(&self, label: &str, baseline: &str, ratio: f64, name: &str) -> Option<Summary> {
        let other = self.by_seed(baseline, Some(ratio), name);
        let differences =
            self.by_seed(label, Some(ratio), name).into_iter().filter_map(|(seed, a)| {
                let (_, b) = other.iter().find(|(known, _)| *known == seed)?;
                Some(a - b)
            });
        Summary::of(&differences.collect::<Vec<_>>())
    }

    /// The first row called `name` in any record.
    fn sample(&self, name: &str) -> Option<&Row> {
        self.records
            .iter()
            .flat_map(|record| &record.measurements)
            .find(|row| row.figure.name == name)
    }
}

/// The whole comparison: aligned models, then one block per ratio.
pub fn comparison(plan: &Plan, records: &[Record]) -> String {
    let figures = Figures { plan, records };
    let failed = |metric| records.iter().any(|record| record.failed.contains_key(metric));
    let present =
        |column: &&Column| figures.sample(column.figure).is_some() || failed(column.metric);
    let columns: Vec<_> = COLUMNS.iter().filter(present).collect();
    let spread = match plan.seeds.len() {
        1 => format!("seed {}", plan.seeds[0]),
        n => format!("mean ± sd over {n} seeds"),
    };
    let mut text = String::new();
    if plan.aligns {
        let columns: Vec<_> = columns.iter().copied().filter(|column| column.of_aligned).collect();
        text += &format!("Aligned, before the user's stage ({spread})\n\n");
        let labels: Vec<_> = plan.alignments.iter().map(|each| each.label.as_str()).collect();
        text += &block(&figures, &columns, &labels, None).render();
        text.push('\n');
    }
    if plan.arms.is_empty() {
        return text;
    }
    for &ratio in &plan.ratios {
        text += &format!(
            "After the user's fine-tuning with a harmful share of p = {ratio} ({spread})\n\n"
        );
        let labels: Vec<_> = plan.arms.iter().map(|arm| arm.label.as_str()).collect();
        let mut grid = block(&figures, &columns, &labels, Some(ratio));
        if let Some(baseline) = plan.baseline.as_deref().filter(|label| *label != plan.tested) {
            let paired = |column: &&Column| {
                let summary = figures.paired(&plan.tested, baseline, ratio, column.figure);
                (summary, column.decimals)
            };
            let paired: Vec<_> = columns.iter().map(paired).collect();
            let label = format!("{} - {baseline}", plan.tested);
            grid.row([label].into_iter().chain(paired.iter().map(difference)));
            if plan.seeds.len() > 1 {
                grid.row(["  95 % interval".into()].into_iter().chain(paired.iter().map(interval)));
            }
        }
        text += &grid.render();
        text.push('\n');
    }
    if plan.baseline.as_ref().is_some_and(|label| *label != plan.tested) && plan.seeds.len() > 1 {
        text += "Differences are paired over seeds, their intervals Student's t over seeds.\n";
    }
    text
}

fn block(figures: &Figures<'_>, columns: &[&Column], labels: &[&str], ratio: Option<f64>) -> Grid {
    let header = |column: &&Column| match figures.sample(column.figure).map(|row| row.figure.better)
    {
        Some(Better::Higher) => format!("{} ↑", column.header),
        Some(Better::Lower) => format!("{} ↓", column.header),
        None => column.header.to_owned(),
    };
    let mut grid = Grid::new(["defense".to_owned()].into_iter().chain(columns.iter().map(header)));
    for label in labels {
        let cell = |column: &&Column| {
            let summary = figures.summary(label, ratio, column.figure);
            summary.map_or("-".to_owned(), |summary| spread(&summary, column.decimals))
        };
        grid.row([(*label).to_owned()].into_iter().chain(columns.iter().map(cell)));
    }
    grid
}

/// `mean ± sd`.
pub(crate) fn spread(summary: &Summary, decimals: usize) -> String {
    match summary.sd {
        None => format!("{:.decimals$}", summary.mean),
        Some(sd) => format!("{:.decimals$} ± {sd:.decimals$}", summary.mean),
    }
}

fn difference((summary, decimals): &(Option<Summary>, usize)) -> String {
    summary.map_or("-".to_owned(), |summary| format!("{:+.decimals$}", summary.mean))
}

fn interval((summary, decimals): &(Option<Summary>, usize)) -> String {
    match summary.and_then(|summary| summary.interval()) {
        None => "-".to_owned(),
        Some([low, high]) => format!("{low:+.decimals$} to {high:+.decimals$}"),
    }
}
