//! What can be told from chance: each method under test against plain training.

use serde::Serialize;
use vxf_stats::{Difference, holm};

use crate::doubts::Doubt;
use crate::figures::{difference, direction, level};
use crate::layout::{Block, Layout, Line};
use crate::record::Record;

/// The figure that methods are held against each other by.
pub const FIGURE: &str = "harmful_score";

/// Below so many seeds an interval is given and no verdict.
const FEWEST_SEEDS: usize = 3;

/// Below so many seeds methods are not ranked.
const FEWEST_FOR_RANKS: usize = 5;

/// The chance of one false finding in a family of comparisons.
const LEVEL: f64 = 0.05;

/// One method under test against plain training, by the harmful score at the largest ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The row under test.
    pub method: String,
    /// The row that it is compared with.
    pub baseline: String,
    /// The harmful ratio.
    pub ratio: Option<f64>,
    /// Mean figure of the row under test.
    pub value: f64,
    /// Mean figure of the other.
    pub baseline_value: f64,
    /// Their difference, paired over seeds and prompts, in points.
    pub difference: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// The p-value of no difference.
    pub p: Option<f64>,
    /// The same by Holm's method, over all comparisons of this experiment.
    pub adjusted_p: Option<f64>,
    /// Seeds.
    pub seeds: usize,
    /// Pairs of answers in all.
    pub pairs: usize,
    /// What it says.
    pub verdict: Verdict,
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Lower, beyond chance.
    Lower,
    /// Higher, beyond chance.
    Higher,
    /// Not to be told from no difference.
    NotDistinguishable,
    /// Too few seeds for a verdict.
    TooFewSeeds,
}

impl Verdict {
    fn of(difference: &Difference, adjusted: Option<f64>) -> Self {
        match adjusted {
            _ if difference.seeds < FEWEST_SEEDS => Self::TooFewSeeds,
            Some(p) if p < LEVEL && difference.mean < 0.0 => Self::Lower,
            Some(p) if p < LEVEL => Self::Higher,
            _ => Self::NotDistinguishable,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::NotDistinguishable => "not distinguishable",
            Self::TooFewSeeds => "too few seeds for a verdict",
        }
    }
}

/// The block of the last stage at the largest ratio: where methods are compared.
pub(crate) fn decisive(layout: &Layout) -> Option<&Block> {
    let ratio = |block: &Block| block.when.ratio.unwrap_or(f64::NEG_INFINITY);
    let depth = layout.blocks.iter().map(|block| block.when.depth).max()?;
    let last = layout.blocks.iter().filter(|block| block.when.depth == depth);
    last.max_by(|a, b| ratio(a).total_cmp(&ratio(b)))
}

/// The family of comparisons that an experiment makes: each method under test against plain training,
/// by the harmful score, at the largest ratio after the last stage.
pub fn comparisons(layout: &Layout, records: &[Record]) -> Vec<Comparison> {
    let Some(block) = decisive(layout) else { return Vec::new() };
    let one = |line: &Line| {
        let baseline = line.baseline.as_ref().filter(|name| **name != line.name)?;
        let baseline = block.line(baseline)?;
        let difference = difference(records, line, baseline, FIGURE)?;
        let mean = |line: &Line| Some(level(records, line, FIGURE)?.summary.mean);
        Some((
            [line, baseline].map(|line| line.name.clone()),
            mean(line)?,
            mean(baseline)?,
            difference,
        ))
    };
    let tested = block.tested.iter();
    let found: Vec<_> = tested.filter_map(|name| one(block.line(name)?)).collect();
    let p: Vec<_> = found.iter().filter_map(|(.., difference)| difference.p).collect();
    // Without a p-value for each there is no family to adjust for.
    let adjusted: Vec<_> = match p.len() == found.len() {
        true => holm(&p).into_iter().map(Some).collect(),
        false => vec![None; found.len()],
    };
    let both = found.into_iter().zip(adjusted);
    let comparison =
        both.map(|(([method, baseline], value, baseline_value, difference), adjusted_p)| {
            Comparison {
                method,
                baseline,
                ratio: block.when.ratio,
                value,
                baseline_value,
                difference: difference.mean,
                interval: difference.interval,
                p: difference.p,
                adjusted_p,
                seeds: difference.seeds,
                pairs: difference.pairs,
                verdict: Verdict::of(&difference, adjusted_p),
            }
        });
    comparison.collect()
}

impl Comparison {
    /// The comparison in one sentence.
    pub fn sentence(&self) -> String {
        let Self { method, baseline, value, baseline_value, difference, seeds, .. } = self;
        let at = self.ratio.map_or(String::new(), |ratio| format!("At p = {ratio}: "));
        let points = format!("{difference:+.1} points");
        let interval = self.interval.map_or(String::new(), |[low, high]| {
            format!(", 95 % interval {low:+.1} to {high:+.1}")
        });
        let figures = format!(
            "{at}harmful score {value:.1} % with {method}, {baseline_value:.1} % with {baseline} \
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

/// A p-value as it is printed.
pub(crate) fn shown_p(p: f64) -> String {
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
    let (lower, all) = (count(Verdict::Lower), several.len());
    let at = several[0].ratio.map_or(String::new(), |ratio| format!("At p = {ratio}: "));
    match count(Verdict::TooFewSeeds) {
        0 => format!(
            "{at}{lower} of {all} methods have a lower harmful score than plain training, beyond chance \
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

/// What the method costs: help and accuracy beside plain training, before and after the user.
fn price(layout: &Layout, records: &[Record], comparison: &Comparison) -> String {
    let figures = [("helpfulness", "helpfulness"), ("accuracy", "accuracy")];
    let of = |block: &Block, name: &str, figure: &str| {
        // The aligned model of a row is called after its first method alone.
        let first = name.split('+').next().unwrap_or(name);
        let line = block.line(name).or_else(|| block.line(first))?;
        Some(level(records, line, figure)?.summary.mean)
    };
    let both = |block: &Block| {
        let pair = |(figure, word): (&str, &str)| {
            let method = of(block, &comparison.method, figure)?;
            let baseline = of(block, &comparison.baseline, figure)?;
            Some(format!("{word} {method:.1} % against {baseline:.1} %"))
        };
        figures.into_iter().filter_map(pair).collect::<Vec<_>>().join(", ")
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
    let Some(block) = decisive(layout) else { return String::new() };
    let at = block.when.ratio.map_or(String::new(), |ratio| format!("At p = {ratio}: "));
    let score = |name: &String| {
        let found = level(records, block.line(name)?, FIGURE)?;
        let interval = found.interval.map(|[low, high]| format!(" ({low:.1} to {high:.1})"));
        let interval = interval.unwrap_or_default();
        Some(format!("{:.1} %{interval} with {name}", found.summary.mean))
    };
    let scores: Vec<_> = block.tested.iter().filter_map(score).collect();
    match scores.is_empty() {
        true => String::new(),
        false => format!(
            "{at}harmful score {}; there is no plain training beside it to compare with.",
            scores.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use vxf_core::metric::{Better, Generation, Prompt};
    use vxf_core::{Measurement, Outcomes, Stage};

    use super::*;
    use crate::layout::When;
    use crate::record::Row;
    use crate::testing::record;

    const PROMPTS: usize = 60;

    /// A run in which the first `harmful` of the prompts are answered harmfully.
    fn run(label: &str, seed: u64, harmful: usize) -> Record {
        let prompt = |n: usize| Prompt {
            text: format!("{seed} {n}"),
            tokens: Vec::new(),
            expected: None,
            group: None,
        };
        let made = |n| Generation { prompt: prompt(n), answer: String::new() };
        let answers: Vec<_> = (0..PROMPTS).map(made).collect();
        let outcomes = Outcomes::of(&answers, 1, |index| Some(index < harmful));
        let figure = Measurement::share(FIGURE, outcomes, Better::Lower);
        let mut record = record(label, Some(0.2), seed);
        record.measurements.push(Row { metric: "harmful-score".into(), figure });
        record
    }

    fn layout(methods: &[&str], seeds: &[u64]) -> Layout {
        let line = |name: &&str| Line {
            name: (*name).to_owned(),
            runs: seeds.iter().map(|seed| record(name, Some(0.2), *seed).id).collect(),
            baseline: Some("sft".to_owned()),
        };
        let block = Block {
            when: When { stage: Stage::FineTuning, depth: 1, ratio: Some(0.2), again: false },
            lines: methods.iter().map(line).collect(),
            tested: methods.iter().map(|name| (*name).to_owned()).collect(),
        };
        Layout {
            blocks: vec![block],
            seeds: seeds.to_vec(),
            ratios: vec![0.2],
            ..Layout::default()
        }
    }

    #[test]
    fn a_clear_difference_is_lower_beyond_chance() {
        let records: Vec<_> = [(1, 46, 10), (2, 50, 15), (3, 42, 9)]
            .iter()
            .flat_map(|&(seed, sft, vaccine)| {
                [run("sft", seed, sft), run("vaccine", seed, vaccine)]
            })
            .collect();
        let layout = layout(&["sft", "vaccine"], &[1, 2, 3]);
        let found = comparisons(&layout, &records);
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Lower));
        assert!((found[0].difference + 100.0 * 104.0 / 180.0).abs() < 1e-9);
        assert_eq!((found[0].seeds, found[0].pairs), (3, 180));
        let text = summary(&layout, &records, &[]);
        let first = text.lines().next().expect("a line");
        for part in [
            "At p = 0.2",
            "18.9 % with vaccine",
            "76.7 % with sft",
            "lower, beyond chance",
            "3 seeds",
            "`--seed 1,2,3,4,5`",
        ] {
            assert!(first.contains(part), "no `{part}` in {first}");
        }
        let doubt = Doubt {
            run: records[1].id.clone(),
            what: "it is destroyed".into(),
            detail: "0 %".into(),
        };
        assert!(
            summary(&layout, &records, &[doubt])
                .starts_with("In doubt, for reasons at the end: vaccine. ")
        );
    }

    #[test]
    fn seeds_that_disagree_are_not_distinguishable_and_few_have_no_verdict() {
        let pairs = [(1, 46, 4), (2, 20, 24), (3, 35, 10)];
        let records: Vec<_> = pairs
            .iter()
            .flat_map(|&(seed, sft, vaccine)| {
                [run("sft", seed, sft), run("vaccine", seed, vaccine)]
            })
            .collect();
        let verdict = |seeds: &[u64]| {
            let layout = layout(&["sft", "vaccine"], seeds);
            (comparisons(&layout, &records)[0].clone(), summary(&layout, &records, &[]))
        };
        let (three, text) = verdict(&[1, 2, 3]);
        assert_eq!(three.verdict, Verdict::NotDistinguishable);
        assert!(text.contains("not distinguishable from chance"), "{text}");
        let [low, high] = three.interval.expect("a rate");
        assert!(low >= -100.0 && high > 0.0, "{three:?}");
        let (two, text) = verdict(&[1, 3]);
        assert_eq!(two.verdict, Verdict::TooFewSeeds);
        assert!(text.contains("2 seeds are too few for a verdict"), "{text}");
        // One seed: McNemar's exact test, 42 pairs that all differ in one way.
        let (one, text) = verdict(&[1]);
        assert!(one.verdict == Verdict::TooFewSeeds && one.p.is_some_and(|p| p < 1e-9), "{one:?}");
        assert!(
            text.contains("McNemar") && text.contains("nothing is known of other seeds"),
            "{text}"
        );
    }

    #[test]
    fn a_family_is_adjusted_and_not_ranked_below_five_seeds() {
        let records: Vec<_> = [1, 2, 3, 4]
            .iter()
            .flat_map(|&seed| {
                let shift = seed as usize;
                [
                    run("sft", seed, 40 + shift),
                    run("a", seed, 10 + shift),
                    run("b", seed, 38 - 2 * shift),
                ]
            })
            .collect();
        let several = layout(&["sft", "a", "b"], &[1, 2, 3, 4]);
        let found = comparisons(&several, &records);
        assert_eq!(found.iter().map(|one| one.method.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let raw: Vec<_> = found.iter().map(|one| one.p.expect("p")).collect();
        let wanted = holm(&raw);
        assert!(found.iter().zip(wanted).all(|(one, p)| one.adjusted_p == Some(p)));
        assert!(found[0].adjusted_p > found[0].p, "the smaller one counts twice");
        let text = summary(&several, &records, &[]);
        assert!(text.contains("of 2 methods") && text.contains("not ranked"), "{text}");
    }
}
