//! What can be told from chance: each method under test against plain training.

use serde::Serialize;
use vxf_core::metric::Better;
use vxf_stats::{Difference, holm};

use crate::figures::{difference, level, sample};
use crate::layout::{Block, Layout, Line};
use crate::record::Record;

/// Below so many seeds an interval is given and no verdict.
pub(crate) const FEWEST_SEEDS: usize = 3;

/// The chance of one false finding in a family of comparisons.
const LEVEL: f64 = 0.05;

/// One method under test against plain training, by the compared figure at the largest ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The figure that both are compared by.
    pub figure: &'static str,
    /// Which way is better.
    pub better: Better,
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
/// by the figure that the experiment compares by, at the largest ratio after the last stage.
pub fn comparisons(layout: &Layout, records: &[Record]) -> Vec<Comparison> {
    let (Some(block), Some(column)) = (decisive(layout), layout.compared()) else {
        return Vec::new();
    };
    let figure = column.figure;
    let Some(better) = sample(records, figure).map(|row| row.figure.better) else {
        return Vec::new();
    };
    let one = |line: &Line| {
        let baseline = line.baseline.as_ref().filter(|name| **name != line.name)?;
        let baseline = block.line(baseline)?;
        let difference = difference(records, line, baseline, figure)?;
        let mean = |line: &Line| Some(level(records, line, figure)?.summary.mean);
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
                figure,
                better,
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

#[cfg(test)]
mod tests {
    use vxf_core::metric::{Generation, Prompt};
    use vxf_core::{Measurement, Outcomes, Stage};

    use super::*;
    use crate::doubts::Doubt;
    use crate::layout::When;
    use crate::record::Row;
    use crate::summary::summary;
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
        let figure = Measurement::share("harmful_score", outcomes, Better::Lower);
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
            ..crate::testing::layout()
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
