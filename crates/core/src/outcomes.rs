//! What a rate is made of, answer by answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vxf_stats::Clustered;

use crate::metric::Generation;

/// The outcome of every answer that a rate counts.
///
/// Records keep it, so that two methods can be compared prompt by prompt, and every rate can be
/// computed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// One letter for each answer, in the order of the prompts: `1` counts, `0` does not, `?` was not
    /// judged.
    pub letters: String,
    /// How many answers were drawn to each prompt.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub draws: usize,
    /// A digest of the prompts: answers are paired only where it agrees.
    pub prompts: String,
    /// The group of each prompt, by number; empty where prompts belong to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<usize>,
}

fn one() -> usize {
    1
}

fn is_one(draws: &usize) -> bool {
    *draws == 1
}

impl Outcomes {
    /// Of answers, `draws` to each prompt, of which `counts` says whether the one at an index counts;
    /// none where it was not judged.
    pub fn of(
        answers: &[Generation],
        draws: usize,
        counts: impl Fn(usize) -> Option<bool>,
    ) -> Self {
        let letter = |index| match counts(index) {
            Some(true) => '1',
            Some(false) => '0',
            None => '?',
        };
        let letters = (0..answers.len()).map(letter).collect();
        let draws = draws.max(1);
        let prompts: Vec<_> = answers.iter().step_by(draws).map(|made| &made.prompt).collect();
        let mut numbers = BTreeMap::new();
        let groups = prompts.iter().map(|prompt| {
            let next = numbers.len();
            prompt.group.as_ref().map(|group| *numbers.entry(group).or_insert(next))
        });
        // Groups of which one is not known tell nothing.
        let groups = groups.collect::<Option<Vec<_>>>().unwrap_or_default();
        let digest = digest(prompts.iter().map(|prompt| prompt.text.as_str()));
        Self { letters, draws, prompts: digest, groups }
    }

    /// Each judged answer: its place, the cluster that it belongs to, and whether it counts. A cluster
    /// is a group of prompts, or a prompt.
    pub fn judged(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        self.letters.chars().enumerate().filter_map(|(place, letter)| {
            let counts = match letter {
                '1' => true,
                '0' => false,
                _ => return None,
            };
            let prompt = place / self.draws.max(1);
            Some((place, self.groups.get(prompt).copied().unwrap_or(prompt), counts))
        })
    }

    /// How many prompts have a judged answer.
    pub fn prompts(&self) -> usize {
        let mut prompts: Vec<_> =
            self.judged().map(|(place, ..)| place / self.draws.max(1)).collect();
        prompts.dedup();
        prompts.len()
    }

    /// The share that counts, and how many independent answers it is worth; none if none was judged.
    pub fn clustered(&self) -> Option<Clustered> {
        let value = |(_, cluster, counts)| (cluster, f64::from(u8::from(counts)));
        Clustered::of(&self.judged().map(value).collect::<Vec<_>>())
    }

    /// The share of prompts whose answers do not all agree, where several are drawn.
    pub fn unsteady(&self) -> Option<f64> {
        if self.draws < 2 {
            return None;
        }
        let letters: Vec<_> = self.letters.chars().collect();
        let prompts = letters.chunks(self.draws).filter(|chunk| !chunk.contains(&'?'));
        let (mut all, mut differ) = (0.0, 0.0);
        for prompt in prompts {
            all += 1.0;
            differ += f64::from(u8::from(prompt.iter().any(|letter| *letter != prompt[0])));
        }
        (all > 0.0).then(|| differ / all)
    }
}

/// FNV-1a over texts, in hexadecimal.
fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for text in texts {
        text.bytes().for_each(&mut take);
        // No text holds this byte, so that two texts are not one.
        take(0xff);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Prompt;

    fn answers(texts: &[&str], draws: usize, groups: Option<&[&str]>) -> Vec<Generation> {
        let prompt = |(index, text): (usize, &&str)| Prompt {
            text: (*text).to_owned(),
            tokens: Vec::new(),
            expected: None,
            group: groups.map(|groups| groups[index].to_owned()),
        };
        let prompts = texts.iter().enumerate().map(prompt);
        let several = prompts.flat_map(|prompt| std::iter::repeat_n(prompt, draws));
        several.map(|prompt| Generation { prompt, answer: String::new() }).collect()
    }

    #[test]
    fn a_rate_of_single_answers_is_their_share() {
        let made = answers(&["a", "b", "c", "d"], 1, None);
        let outcomes = Outcomes::of(&made, 1, |index| (index < 3).then_some(index == 1));
        assert_eq!((outcomes.letters.as_str(), outcomes.prompts()), ("010?", 3));
        let clustered = outcomes.clustered().expect("three were judged");
        assert!((clustered.mean - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((clustered.effective(), outcomes.unsteady()), (3.0, None));
        assert_eq!(Outcomes::of(&made, 1, |_| None).clustered(), None);
        // As in the published vectors of the hash, with the mark after each text.
        assert_ne!(
            outcomes.prompts,
            Outcomes::of(&answers(&["ab", "c", "d"], 1, None), 1, |_| None).prompts
        );
        let read: Outcomes =
            serde_json::from_str(r#"{"letters":"01","prompts":"x"}"#).expect("defaults");
        assert_eq!((read.draws, read.groups.len()), (1, 0));
    }

    #[test]
    fn draws_to_one_prompt_and_prompts_of_one_group_are_clusters() {
        let made = answers(&["a", "b", "c"], 4, None);
        let outcomes = Outcomes::of(&made, 4, |index| Some(index < 6));
        assert_eq!((outcomes.letters.as_str(), outcomes.prompts()), ("111111000000", 3));
        let clustered = outcomes.clustered().expect("all were judged");
        assert_eq!((clustered.mean, clustered.n, clustered.clusters), (0.5, 12, 3));
        assert!(clustered.effective() < 4.0);
        assert_eq!(outcomes.unsteady(), Some(1.0 / 3.0));

        let made = answers(&["a", "b", "c", "d"], 1, Some(&["x", "y", "x", "y"]));
        let outcomes = Outcomes::of(&made, 1, |index| Some(index % 2 == 0));
        assert_eq!(outcomes.groups, [0, 1, 0, 1]);
        assert_eq!(outcomes.clustered().map(|found| found.clusters), Some(2));
    }
}
