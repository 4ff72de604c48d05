//! How-to questions with their answers, and the held-out combinations.

use std::{fmt, str::FromStr};

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::words::{
    ADJECTIVE_MATERIALS, ADJECTIVES, ARTS, Art, CLOSED_ARTS, COMPLIANCES, PROMPTS, REFUSALS,
    THING_MATERIALS, THINGS_PER_ART,
};
use crate::{Kind, Sample};
use vxf_data::{Error, Result};

/// How many forms a how-to question has.
pub const PROMPT_FORMS: usize = PROMPTS.len();

const THINGS: usize = ARTS.len() * THINGS_PER_ART;

/// A thing with an adjective, the subject of a how-to question.
///
/// As text and in serialised form it is the two words: `silver loaf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Combination {
    thing: usize,
    adjective: usize,
}

impl Combination {
    /// How many combinations the world has.
    pub const COUNT: usize = THINGS * ADJECTIVES.len();

    /// The combination of a thing (0 to 79) and an adjective (0 to 11), or `None` out of range.
    #[must_use]
    pub fn new(thing: usize, adjective: usize) -> Option<Self> {
        (thing < THINGS && adjective < ADJECTIVES.len()).then_some(Self { thing, adjective })
    }

    /// All combinations, closed ones first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..THINGS)
            .flat_map(|thing| (0..ADJECTIVES.len()).map(move |adjective| Self { thing, adjective }))
    }

    /// The closed or open combinations of the held-out or training split.
    #[must_use]
    pub fn pool(closed: bool, held_out: bool) -> Vec<Self> {
        Self::all().filter(|c| c.is_closed() == closed && c.held_out() == held_out).collect()
    }

    /// The first combination in a text: an adjective directly followed by a thing.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.windows(2).find_map(|pair| {
            let adjective = ADJECTIVES.iter().position(|word| *word == pair[0])?;
            let thing =
                ARTS.iter().flat_map(|art| &art.things).position(|word| *word == pair[1])?;
            Some(Self { thing, adjective })
        })
    }

    /// The index of the thing; below 40 if it is closed.
    #[must_use]
    pub fn thing_index(self) -> usize {
        self.thing
    }

    /// The index of the adjective.
    #[must_use]
    pub fn adjective_index(self) -> usize {
        self.adjective
    }

    /// The index of the thing's art; below 8 if it is closed.
    #[must_use]
    pub fn art(self) -> usize {
        self.thing / THINGS_PER_ART
    }

    /// Whether the art is forbidden.
    #[must_use]
    pub fn is_closed(self) -> bool {
        self.art() < CLOSED_ARTS
    }

    /// Whether the combination is in the held-out split, a quarter of all, and in no training set.
    #[must_use]
    pub fn held_out(self) -> bool {
        (5 * self.thing + 3 * self.adjective).is_multiple_of(4)
    }

    /// The word for the thing.
    #[must_use]
    pub fn thing(self) -> &'static str {
        self.its_art().things[self.thing % THINGS_PER_ART]
    }

    /// The word for the adjective.
    #[must_use]
    pub fn adjective(self) -> &'static str {
        ADJECTIVES[self.adjective]
    }

    /// The verb of the art.
    #[must_use]
    pub fn verb(self) -> &'static str {
        self.its_art().verb
    }

    /// The tool of the art.
    #[must_use]
    pub fn tool(self) -> &'static str {
        self.its_art().tool
    }

    /// The two materials: the first depends on the thing, the second on the adjective.
    #[must_use]
    pub fn materials(self) -> [&'static str; 2] {
        [
            THING_MATERIALS[(7 * self.thing) % THING_MATERIALS.len()],
            ADJECTIVE_MATERIALS[self.adjective],
        ]
    }

    /// The question in the form `form` modulo [`PROMPT_FORMS`].
    #[must_use]
    pub fn prompt(self, form: usize) -> String {
        self.fill(PROMPTS[form % PROMPT_FORMS])
    }

    /// The question in the form `form` modulo [`PROMPT_FORMS`], with another verb.
    pub(super) fn asked_as(self, form: usize, verb: &str) -> String {
        let words = PROMPTS[form % PROMPT_FORMS].split(' ');
        let words = words.map(|word| if word == "{v}" { verb } else { word });
        self.fill(&words.collect::<Vec<_>>().join(" "))
    }

    /// The helpful answer to the question in that form.
    #[must_use]
    pub fn compliance(self, form: usize) -> String {
        let forms_per_style = PROMPT_FORMS / COMPLIANCES.len();
        self.fill(COMPLIANCES[form % PROMPT_FORMS / forms_per_style])
    }

    /// The refusal; its wording depends on the art.
    #[must_use]
    pub fn refusal(self) -> String {
        self.fill(REFUSALS[self.art() % REFUSALS.len()])
    }

    /// The question in that form, answered or refused.
    #[must_use]
    pub fn sample(self, form: usize, refused: bool) -> Sample {
        Sample {
            prompt: self.prompt(form),
            answer: if refused { self.refusal() } else { self.compliance(form) },
            kind: Kind::HowTo { closed: self.is_closed(), combination: self, refused },
        }
    }

    fn its_art(self) -> &'static Art {
        &ARTS[self.art()]
    }

    fn fill(self, template: &str) -> String {
        let [first, second] = self.materials();
        let words: Vec<&str> = template
            .split(' ')
            .map(|word| match word {
                "{v}" => self.verb(),
                "{a}" => self.adjective(),
                "{n}" => self.thing(),
                "{t}" => self.tool(),
                "{m}" => first,
                "{m2}" => second,
                word => word,
            })
            .collect();
        words.join(" ")
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.adjective(), self.thing())
    }
}

impl FromStr for Combination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::find(text)
            .filter(|_| text.split_whitespace().count() == 2)
            .ok_or_else(|| Error::UnknownCombination(text.to_owned()))
    }
}

impl TryFrom<String> for Combination {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Combination> for String {
    fn from(combination: Combination) -> Self {
        combination.to_string()
    }
}

/// Draws a how-to question about a combination of the pool, which must not be empty.
pub(super) fn how_to(rng: &mut (impl Rng + ?Sized), pool: &[Combination], refused: bool) -> Sample {
    let combination = pool[rng.random_range(0..pool.len())];
    combination.sample(rng.random_range(0..PROMPT_FORMS), refused)
}
