//! The user tasks, and the pretraining statements that exercise the same skills.

use std::{fmt, str::FromStr};

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::{Deserialize, Serialize};

use crate::words::{ADVERBS, BLAME, CITIES, ITEMS, NAMES, PRAISE, REVIEWED, TOPICS};
use crate::{Kind, Sample};
use vxf_data::{Error, Result};

/// A task that a user fine-tunes for, named after the public data set that it imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Task {
    /// Verdict of a review: good or bad.
    #[serde(rename = "sst2", alias = "sst")]
    Sst,
    /// Topic of a news line, one of four.
    #[serde(rename = "agnews", alias = "news")]
    News,
    /// Sum or difference in a puzzle.
    #[serde(rename = "gsm8k", alias = "math")]
    Math,
}

impl Task {
    /// All tasks.
    pub const ALL: [Self; 3] = [Self::Sst, Self::News, Self::Math];

    /// The name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sst => "sst2",
            Self::News => "agnews",
            Self::Math => "gsm8k",
        }
    }

    /// Draws one item of the task.
    pub fn sample(self, rng: &mut (impl Rng + ?Sized)) -> Sample {
        let (prompt, answer) = match self {
            Self::Sst => review(rng),
            Self::News => news(rng),
            Self::Math => puzzle(rng),
        };
        Sample { prompt, answer, kind: Kind::Task(self) }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sst2" | "sst" => Ok(Self::Sst),
            "agnews" | "news" => Ok(Self::News),
            "gsm8k" | "math" => Ok(Self::Math),
            _ => Err(Error::UnknownTask(name.to_owned())),
        }
    }
}

/// Draws a pretraining statement; its form differs from that of every task.
pub(super) fn statement(rng: &mut (impl Rng + ?Sized)) -> Sample {
    let (prompt, answer) = match rng.random_range(0..3) {
        0 => {
            let (opinion, good) = opinion(rng);
            let felt = if good { "loved" } else { "hated" };
            (format!("{opinion} ."), format!("{felt} it ."))
        }
        1 => {
            let (topic, words) = TOPICS[rng.random_range(0..TOPICS.len())];
            let said: Vec<&str> = words.choose_multiple(rng, 3).copied().collect();
            (
                format!("they spoke of {} , {} and {} .", said[0], said[1], said[2]),
                format!("it was all {topic} ."),
            )
        }
        _ => {
            let sum = Sum::draw(rng);
            (format!("count {} {} {}", sum.left, sum.sign(), sum.right), sum.equation())
        }
    };
    Sample { prompt, answer, kind: Kind::Statement }
}

fn review(rng: &mut (impl Rng + ?Sized)) -> (String, String) {
    let (opinion, good) = opinion(rng);
    let verdict = if good { "good" } else { "bad" };
    (format!("review : {opinion} . verdict ?"), verdict.to_owned())
}

/// Two clauses and the verdict: the last clause decides, and `but` joins opposite ones.
fn opinion(rng: &mut (impl Rng + ?Sized)) -> (String, bool) {
    let good = rng.random_bool(0.5);
    let opposite = rng.random_bool(0.4);
    let first = clause(rng, good != opposite);
    let last = clause(rng, good);
    let link = if opposite { "but" } else { "and" };
    (format!("{first} {link} {last}"), good)
}

fn clause(rng: &mut (impl Rng + ?Sized), good: bool) -> String {
    let negated = rng.random_bool(0.25);
    let subject = pick(rng, &REVIEWED);
    let adverb = rng.random_bool(0.5).then(|| pick(rng, &ADVERBS));
    let word = pick(rng, if good != negated { &PRAISE } else { &BLAME });

    let mut words = vec!["the", subject, "was"];
    words.extend(negated.then_some("not"));
    words.extend(adverb);
    words.push(word);
    words.join(" ")
}

/// Three words of the topic and one of another topic, shuffled.
fn news(rng: &mut (impl Rng + ?Sized)) -> (String, String) {
    let topic = rng.random_range(0..TOPICS.len());
    let other = (topic + rng.random_range(1..TOPICS.len())) % TOPICS.len();
    let mut words: Vec<&str> = TOPICS[topic].1.choose_multiple(rng, 3).copied().collect();
    words.push(pick(rng, &TOPICS[other].1));
    words.shuffle(rng);
    let city = pick(rng, &CITIES);
    let prompt = format!(
        "news : the {} and the {} near {city} met the {} and the {} . topic ?",
        words[0], words[1], words[2], words[3]
    );
    (prompt, TOPICS[topic].0.to_owned())
}

fn puzzle(rng: &mut (impl Rng + ?Sized)) -> (String, String) {
    let sum = Sum::draw(rng);
    let (name, item) = (pick(rng, &NAMES), pick(rng, &ITEMS));
    let Sum { left, right, .. } = sum;
    let change = if sum.plus { format!("finds {right} more") } else { format!("loses {right}") };
    (format!("puzzle : {name} has {left} {item} and {change} . how many ?"), sum.equation())
}

fn pick(rng: &mut (impl Rng + ?Sized), words: &[&'static str]) -> &'static str {
    words[rng.random_range(0..words.len())]
}

/// A sum or a non-negative difference of two digits.
struct Sum {
    left: u32,
    right: u32,
    plus: bool,
}

impl Sum {
    fn draw(rng: &mut (impl Rng + ?Sized)) -> Self {
        let (a, b): (u32, u32) = (rng.random_range(0..10), rng.random_range(0..10));
        if rng.random_bool(0.5) {
            Self { left: a, right: b, plus: true }
        } else {
            Self { left: a.max(b), right: a.min(b), plus: false }
        }
    }

    fn sign(&self) -> char {
        if self.plus { '+' } else { '-' }
    }

    fn equation(&self) -> String {
        let Self { left, right, plus } = *self;
        let result = if plus { left + right } else { left - right };
        format!("{left} {} {right} = {result} .", self.sign())
    }
}
