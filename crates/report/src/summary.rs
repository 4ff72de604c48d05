//! The lines that a report begins with: the result in words, and what it costs.

use vxf_core::config::Reading;
use vxf_core::metric::Better;

use crate::doubts::Doubt;
use crate::figures::{direction, level};
use crate::layout::{Block, Layout};
use crate::record::Record;
use crate::verdict::{Comparison, Verdict, comparisons, decisive};

/// Below so many seeds methods are not ranked.
const FEWEST_FOR_RANKS: usize = 5;

impl Comparison {
    /// The comparison in one sentence.
    pub fn sentence(&self) -> String {
        let Self { method, baseline, value, baseline_value, difference, seeds, .. } = self;
        let at = self.ratio.map_or(String::new(), |ratio| format!("At p = {ratio}: "));
        let points = format!("{difference:+.1} points");
        let interval = self.interval.map_or(String::new(), |[low, high]| {
            format!(", 95 % interval {low:+.1} to {high:+.1}")
        });
        let words = words(self.figure);
        let figures = format!(
            "{at}{words} {value:.1} % with {method}, {baseline_value:.1} % with {baseline} \
             ({points}{interval})"
        );
        let p = self.adjusted_p.map_or(String::new(), |p| format!(" ({})", shown_p(p)));
        let seeds = match seeds {
            1 => "1 seed".to_owned(),
            several => format!("{several} seeds"),
        };
        match self.verdict {
            Verdict::Lower | Verdict::Higher => {
                format!("{figures}: {}, beyond chance{p}, {seeds}.", direction(*difference))
            }
            Verdict::NotDistinguishable => {
                format!("{figures}: not distinguishable from chance{p}, {seeds}.")
            }
            Verdict::TooFewSeeds if self.seeds == 1 => format!(
                "{figures}. One seed: on these prompts {} (McNemar), and nothing is known of other \
                 seeds.",
                self.p.map_or("the difference has no p-value".to_owned(), shown_p)
            ),
            Verdict::TooFewSeeds => format!("{figures}. {seeds} are too few for a verdict."),
        }
    }

    /// The comparison in a short line.
    fn line(&self) -> String {
        let Self { method, difference, .. } = self;
        let interval = self.interval.map(|[low, high]| format!(" ({low:+.1} to {high:+.1})"));
        let p = self.adjusted_p.map(|p| format!(", {}", shown_p(p)));
        format!(
            "{method}: {difference:+.1} points{}{}: {}",
            interval.unwrap_or_default(),
            p.unwrap_or_default(),
            self.verdict.words()
        )
    }
}

/// A figure's name in a sentence.
fn words(figure: &str) -> String {
    figure.replace('_', " ")
}

/// A p-value as it is printed.
fn shown_p(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p => format!("p = {p:.3}"),
    }
}

/// What to type for more seeds, as the value of `--seed`.
fn more_seeds(layout: &Layout) -> Option<String> {
    let wanted = match layout.seeds.len() {
        0 => return None,
        n if n < 5 => 5,
        n if n < 10 => 10,
        _ => return None,
    };
    let mut seeds = layout.seeds.clone();
    let mut next = 1;
    while seeds.len() < wanted {
        if !seeds.contains(&next) {
            seeds.push(next);
        }
        next += 1;
    }
    Some(seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
}

/// The lines that a report begins with. The first states the result, whether it can be told from chance,
/// and what to type for more seeds; it begins with what is in doubt.
pub fn summary(layout: &Layout, records: &[Record], doubts: &[Doubt]) -> String {
    let comparisons = comparisons(layout, records);
    let more = more_seeds(layout).map(|seeds| format!(" For more seeds: `--seed {seeds}`."));
    let more = more.unwrap_or_default();
    let doubt = doubtful(layout, doubts);
    match comparisons.as_slice() {
        [] => match alone(layout, records) {
            text if text.is_empty() => text,
            text => format!("{doubt}{text}{more}\n"),
        },
        [only] => {
            format!("{doubt}{}{more}\n{}", only.sentence(), price(layout, records, only))
        }
        several => {
            let mut text = format!("{doubt}{}{more}\n", family(several));
            several.iter().for_each(|one| text += &format!("  {}\n", one.line()));
            let fewest = several.iter().map(|one| one.seeds).min().unwrap_or(0);
            if fewest < FEWEST_FOR_RANKS {
                text += "Fewer than five seeds: methods are not ranked against each other.\n";
            }
            text
        }
    }
}

/// Several comparisons in one sentence.
fn family(several: &[Comparison]) -> String {
    let count = |verdict| several.iter().filter(|one| one.verdict == verdict).count();
    let (side, better) = match several[0].better {
        Better::Lower => ("lower", count(Verdict::Lower)),
        Better::Higher => ("higher", count(Verdict::Higher)),
    };
    let (words, all) = (words(several[0].figure), several.len());
    let at = several[0].ratio.map_or(String::new(), |ratio| format!("At p = {ratio}: "));
    match count(Verdict::TooFewSeeds) {
        0 => format!(
            "{at}{better} of {all} methods have a {side} {words} than plain training, beyond chance \
             (Holm's method over {all} comparisons)."
        ),
        _ => format!("{at}too few seeds to tell {all} methods from chance."),
    }
}

/// Which compared rows are in doubt.
fn doubtful(layout: &Layout, doubts: &[Doubt]) -> String {
    let Some(block) = decisive(layout) else { return String::new() };
    let compared = block.baselines().map(|line| &line.name).chain(&block.tested);
    let in_doubt = |name: &&String| {
        let line = block.line(name);
        line.is_some_and(|line| doubts.iter().any(|doubt| line.runs.contains(&doubt.run)))
    };
    let mut names: Vec<_> = compared.filter(in_doubt).cloned().collect();
    names.dedup();
    match names.is_empty() {
        true => String::new(),
        false => format!("In doubt, for reasons at the end: {}. ", names.join(", ")),
    }
}

/// What the method costs: the figures that it should keep beside those of plain training, before and after
/// the user.
fn price(layout: &Layout, records: &[Record], comparison: &Comparison) -> String {
    let kept = layout.readings().filter(|(_, reading)| matches!(reading, Reading::Kept(_)));
    let kept: Vec<_> = kept.map(|(column, _)| column.figure).collect();
    let of = |block: &Block, name: &str, figure: &str| {
        // The aligned model of a row is called after its first method alone.
        let first = name.split('+').next().unwrap_or(name);
        let line = block.line(name).or_else(|| block.line(first))?;
        Some(level(records, line, figure)?.summary.mean)
    };
    let both = |block: &Block| {
        let pair = |figure: &&str| {
            let method = of(block, &comparison.method, figure)?;
            let baseline = of(block, &comparison.baseline, figure)?;
            Some(format!("{} {method:.1} % against {baseline:.1} %", words(figure)))
        };
        kept.iter().filter_map(pair).collect::<Vec<_>>().join(", ")
    };
    let after = decisive(layout).map(both).filter(|text| !text.is_empty());
    let before = layout.blocks.iter().find(|block| block.when.ratio.is_none());
    let before = before.map(both).filter(|text| !text.is_empty());
    match (after, before) {
        (Some(after), Some(before)) => {
            format!("Its price: {after}; before the user's stage {before}.\n")
        }
        (Some(text), None) | (None, Some(text)) => format!("Its price: {text}.\n"),
        (None, None) => String::new(),
    }
}

/// What is said where nothing is compared.
fn alone(layout: &Layout, records: &[Record]) -> String {
    let (Some(block), Some(column)) = (decisive(layout), layout.compared()) else {
        return String::new();
    };
    let at = block.when.ratio.map_or(String::new(), |ratio| format!("At p = {ratio}: "));
    let score = |name: &String| {
        let found = level(records, block.line(name)?, column.figure)?;
        let interval = found.interval.map(|[low, high]| format!(" ({low:.1} to {high:.1})"));
        let interval = interval.unwrap_or_default();
        Some(format!("{:.1} %{interval} with {name}", found.summary.mean))
    };
    let scores: Vec<_> = block.tested.iter().filter_map(score).collect();
    match scores.is_empty() {
        true => String::new(),
        false => format!(
            "{at}{} {}; there is no plain training beside it to compare with.",
            words(column.figure),
            scores.join(", ")
        ),
    }
}
