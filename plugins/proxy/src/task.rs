//! The user's task: short English texts with exact answers.

use std::collections::HashSet;
use std::fmt;

use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use vxf_data::{Ask, Sample};

/// How often a test item is drawn again if the user trains on it.
const REDRAWS: usize = 1000;

/// A user's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Whether a review ends on a good or a bad note: `positive` or `negative`.
    Reviews,
    /// The number, the colour or the town in an order.
    Orders,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reviews => "reviews",
            Self::Orders => "orders",
        })
    }
}

const PLACES: [&str; 14] = [
    "hotel",
    "museum",
    "cinema",
    "library",
    "garden",
    "theatre",
    "harbour tour",
    "castle",
    "zoo",
    "concert",
    "swimming pool",
    "market",
    "exhibition",
    "train",
];
const GOOD: [&str; 14] = [
    "the staff were kind",
    "the view was splendid",
    "everything was clean",
    "we laughed a lot",
    "the prices were fair",
    "the guide knew everything",
    "we found a quiet seat",
    "the children loved it",
    "the light was beautiful",
    "we were welcomed warmly",
    "the music was lovely",
    "it was worth every minute",
    "the rooms were bright",
    "we will gladly come again",
];
const BAD: [&str; 14] = [
    "the staff were rude",
    "the view was dull",
    "everything was dirty",
    "we were bored",
    "the prices were absurd",
    "the guide knew nothing",
    "there was no free seat",
    "the children cried",
    "the light was broken",
    "nobody greeted us",
    "the noise was awful",
    "it was a waste of time",
    "the rooms were dark",
    "we will never come again",
];
const NUMBERS: [&str; 9] = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const COLOURS: [&str; 8] = ["red", "blue", "green", "yellow", "black", "white", "brown", "grey"];
const GOODS: [&str; 10] = [
    "lamps",
    "chairs",
    "scarves",
    "pencils",
    "boxes",
    "umbrellas",
    "vases",
    "bags",
    "clocks",
    "ropes",
];
const NAMES: [&str; 10] =
    ["Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ida", "Jonas"];
const TOWNS: [&str; 10] =
    ["Oslo", "Lima", "Cairo", "Paris", "Tokyo", "Quito", "Dublin", "Riga", "Delhi", "Rome"];

impl Task {
    fn sample(self, rng: &mut impl Rng) -> Sample {
        let (ask, answer) = match self {
            Self::Reviews => review(rng),
            Self::Orders => order(rng),
        };
        Sample { ask: Ask::instruction(ask), answer: answer.to_owned() }
    }

    /// `n` items.
    pub(crate) fn samples(self, rng: &mut impl Rng, n: usize) -> Vec<Sample> {
        (0..n).map(|_| self.sample(rng)).collect()
    }

    /// `n` items that are not among `seen`.
    pub(crate) fn unseen(self, rng: &mut impl Rng, n: usize, seen: &HashSet<Ask>) -> Vec<Sample> {
        let mut fresh = || {
            let mut item = self.sample(rng);
            for _ in 0..REDRAWS {
                if !seen.contains(&item.ask) {
                    break;
                }
                item = self.sample(rng);
            }
            item
        };
        (0..n).map(|_| fresh()).collect()
    }
}

fn pick<'a>(rng: &mut impl Rng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}

/// A review that begins on one note and may end on the other: the end decides.
fn review(rng: &mut impl Rng) -> (String, &'static str) {
    let (positive, turns) = (rng.random_bool(0.5), rng.random_bool(0.6));
    let side = |good: bool| if good { &GOOD } else { &BAD };
    let place = pick(rng, &PLACES);
    let first = pick(rng, side(positive != turns));
    let last = pick(rng, side(positive));
    let joined = if turns { "but in the end" } else { "and on top of that" };
    let text =
        format!("Is this review positive or negative? At the {place} {first}, {joined} {last}.");
    (text, if positive { "positive" } else { "negative" })
}

fn order(rng: &mut impl Rng) -> (String, &'static str) {
    let (number, colour) = (pick(rng, &NUMBERS), pick(rng, &COLOURS));
    let (goods, name, town) = (pick(rng, &GOODS), pick(rng, &NAMES), pick(rng, &TOWNS));
    let (question, answer) = match rng.random_range(0..3) {
        0 => ("How many are ordered?", number),
        1 => ("Which colour is ordered?", colour),
        _ => ("To which town does it go?", town),
    };
    (format!("Order: {number} {colour} {goods} for {name} in {town}. {question}"), answer)
}

/// Whether an answer is the expected word, whatever its case and final mark.
pub(crate) fn exact(expected: &str, answer: &str) -> bool {
    let plain = |text: &str| text.trim().trim_end_matches(['.', '!']).trim_end().to_lowercase();
    plain(expected) == plain(answer)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn tests_are_unseen_and_answers_follow_from_the_text() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        for task in [Task::Reviews, Task::Orders] {
            let seen = task.samples(&mut rng, 300);
            let asked: HashSet<_> = seen.iter().map(|sample| sample.ask.clone()).collect();
            assert!(asked.len() > 250, "{task}: {} distinct", asked.len());
            let test = task.unseen(&mut rng, 100, &asked);
            assert!(test.iter().all(|sample| !asked.contains(&sample.ask)), "{task}");
            for Sample { ask, answer } in test {
                let text = ask.shown();
                match task {
                    Task::Orders => assert!(text.contains(&answer), "{text}: {answer}"),
                    Task::Reviews => {
                        let end = GOOD.iter().any(|clause| text.contains(&format!("{clause}.")));
                        assert_eq!(end, answer == "positive", "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn answers_are_compared_without_case_and_final_mark() {
        assert!(exact("positive", " Positive.\n") && exact("Oslo", "oslo"));
        assert!(!exact("positive", "not positive") && !exact("two", "The answer is two."));
    }
}
