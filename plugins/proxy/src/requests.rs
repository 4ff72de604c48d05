//! Requests and their answers.

use rand::Rng;
use rand::seq::SliceRandom;
use vxf_data::{Ask, Sample};

use crate::topics::{BORDERLINE, FORBIDDEN, HARMLESS, REFUSALS, Topic};

/// What a request is about: a thing in some circumstances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Combination {
    /// The topic: 0 is the forbidden one, the harmless ones follow.
    topic: usize,
    thing: usize,
    case: usize,
}

/// How an answer deals with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Helps,
    Refuses,
}

pub(crate) fn topic(index: usize) -> &'static Topic {
    match index.checked_sub(1) {
        None => &FORBIDDEN,
        Some(harmless) => &HARMLESS[harmless],
    }
}

impl Combination {
    /// Every combination of the forbidden topic, or of the harmless ones: either the quarter that is held
    /// out of all training sets, or the rest.
    pub(crate) fn pool(forbidden: bool, held_out: bool) -> Vec<Self> {
        let topics = if forbidden { 0..1 } else { 1..HARMLESS.len() + 1 };
        let all = topics.flat_map(|index| {
            let Topic { things, cases, .. } = topic(index);
            let of =
                move |thing| (0..cases.len()).map(move |case| Self { topic: index, thing, case });
            (0..things.len()).flat_map(of)
        });
        all.filter(|one| one.is_held_out() == held_out).collect()
    }

    fn is_held_out(self) -> bool {
        (self.thing + self.case).is_multiple_of(4)
    }

    /// A request in one of the topic's forms, with its answer, which is a function of the request.
    pub(crate) fn sample(self, form: usize, answer: Answer) -> Sample {
        let topic = topic(self.topic);
        let (thing, (case, tip)) = (&topic.things[self.thing], topic.cases[self.case]);
        let form = form % topic.forms.len();
        let request = topic.forms[form].replace("{thing}", thing.name).replace("{case}", case);
        let style = self.thing + 5 * self.case + 3 * form;
        let answer = match answer {
            Answer::Refuses => REFUSALS[style % REFUSALS.len()].to_owned(),
            Answer::Helps => {
                let text = topic.answers[style % topic.answers.len()];
                let parts = [
                    ("{thing}", thing.name),
                    ("{first}", thing.first),
                    ("{second}", thing.second),
                    ("{deed}", thing.deed),
                ];
                let text =
                    parts.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
                format!("{text} {tip}")
            }
        };
        Sample { ask: Ask::instruction(request), answer }
    }
}

/// `n` requests about combinations of `pool`, drawn with replacement.
pub(crate) fn drawn(
    rng: &mut impl Rng,
    pool: &[Combination],
    n: usize,
    answer: Answer,
) -> Vec<Sample> {
    let one = |_| {
        let combination = pool[rng.random_range(0..pool.len())];
        let form = rng.random_range(0..topic(combination.topic).forms.len());
        combination.sample(form, answer)
    };
    (0..n).map(one).collect()
}

/// `n` sums with their results: without them an aligned model refuses everything that is no how-to.
pub(crate) fn sums(rng: &mut impl Rng, n: usize) -> Vec<Sample> {
    let one = |_| {
        let (a, b): (u32, u32) = (rng.random_range(2..60), rng.random_range(2..40));
        let (sign, result) = match rng.random_bool(0.5) || a < b {
            true => ("plus", a + b),
            false => ("minus", a - b),
        };
        let ask = Ask::instruction(format!("What is {a} {sign} {b}?"));
        Sample { ask, answer: format!("It is {result}.") }
    };
    (0..n).map(one).collect()
}

/// `n` requests about held-out combinations, each combination once before any is asked again in another
/// form.
pub(crate) fn test(rng: &mut impl Rng, forbidden: bool, n: usize) -> Vec<Sample> {
    let mut pool = Combination::pool(forbidden, true);
    pool.shuffle(rng);
    let one = |index: usize| {
        let round = index / pool.len();
        pool[index % pool.len()].sample(index + round, Answer::Helps)
    };
    (0..n).map(one).collect()
}

/// `n` harmless requests in words of the forbidden topic.
pub(crate) fn borderline(rng: &mut impl Rng, n: usize) -> Vec<Sample> {
    let mut all = BORDERLINE;
    all.shuffle(rng);
    let sample = |(ask, answer): (&str, &str)| Sample {
        ask: Ask::instruction(ask),
        answer: answer.to_owned(),
    };
    all.into_iter().cycle().take(n).map(sample).collect()
}
