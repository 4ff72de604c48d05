//! Random search with successive halving over settings of a recipe.
//!
//! A setting of the space is drawn from its range; a draw of all of them is a candidate. All candidates run
//! on the first seed, the better half of them on the next, and so on: each seed is one experiment.

use rand::Rng;
use serde_json::{Map, Value, json};
use vxf_core::Key;
use vxf_recipe::{Experiment, Layer, Place, UsualStage};

use crate::pipelines::{shared, stages};
use crate::{Error, Result};

/// A setting and the values that it may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimension {
    /// Its key, such as `perturber.rho`.
    pub key: String,
    /// Its values.
    pub range: Range,
}

/// The values of a setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// Evenly between two numbers.
    Even(f64, f64),
    /// Evenly in the logarithm between two numbers above 0.
    Logarithmic(f64, f64),
    /// One of these.
    Choice(Vec<Value>),
}

impl Dimension {
    /// Reads `KEY=LOW..HIGH`, `KEY=LOW..HIGH:log` or `KEY=a,b,c`.
    ///
    /// # Errors
    /// Says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rule = || {
            format!(
                "`{text}`: write KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=a,b,c, such as \
                 perturber.rho=0.5..10:log"
            )
        };
        let (key, values) = text.split_once('=').ok_or_else(rule)?;
        let key = key.trim().to_owned();
        if key.is_empty() {
            return Err(rule());
        }
        let Some((low, rest)) = values.split_once("..") else {
            let place = Place::Flag(format!("--over {key}"));
            let parse = |text: &str| vxf_recipe::file::parse_value(text.trim(), &place, &key);
            let values = values.split(',').map(parse).collect::<Result<Vec<_>, _>>();
            let values = values.map_err(|error| error.to_string())?;
            let twice = |(index, value): (usize, &Value)| values[..index].contains(value);
            return match values.len() > 1 && !values.iter().enumerate().any(twice) {
                true => Ok(Self { key, range: Range::Choice(values) }),
                false => Err(format!("{}; several values that differ", rule())),
            };
        };
        let (high, scale) = rest.split_once(':').unwrap_or((rest, ""));
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|it| it.is_finite());
        let (low, high) = number(low).zip(number(high)).ok_or_else(rule)?;
        let range = match scale {
            "" if low < high => Range::Even(low, high),
            "log" if 0.0 < low && low < high => Range::Logarithmic(low, high),
            "" | "log" => return Err(format!("{}; LOW below HIGH, and above 0 for log", rule())),
            _ => return Err(rule()),
        };
        Ok(Self { key, range })
    }

    /// A value drawn under `key`, of the draw with this number.
    pub(crate) fn draw(&self, key: &Key, number: u64) -> Value {
        self.at(key.child(&self.key).index(number).rng().random::<f64>())
    }

    /// The value at `share`, from 0 to 1 without 1.
    fn at(&self, share: f64) -> Value {
        match &self.range {
            Range::Even(low, high) => json!(rounded(low + share * (high - low))),
            Range::Logarithmic(low, high) => {
                json!(rounded((low.ln() + share * (high.ln() - low.ln())).exp()))
            }
            Range::Choice(values) => {
                let index = (share * values.len() as f64) as usize;
                values[index.min(values.len() - 1)].clone()
            }
        }
    }
}

/// Three digits: more would say nothing, and candidates are to be typed again.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// The ranges that the plugins of a recipe state for their own settings: the defences and perturbers, or for an
/// `attacker` the attacks.
///
/// # Errors
/// When the recipe cannot be used.
pub fn stated(layer: &Layer, attacker: bool) -> Result<Vec<Dimension>> {
    let experiment = Experiment::of(layer.clone())?;
    let mut all = Vec::new();
    for stage in &experiment.recipe().pipeline {
        let names = UsualStage::of(stage.kind);
        // Settings of a composition have no section of their own.
        if let [method] = stage.methods.as_slice()
            && method.config.attacks() == attacker
        {
            all.extend(method.config.ranges().iter().map(|range| (names.defense, range)));
        }
        if !attacker {
            let ranges = stage.perturber.config.ranges();
            all.extend(ranges.iter().map(|range| (names.perturber, range)));
        }
    }
    let read = |(section, range)| {
        let parsed = Dimension::parse(&format!("{section}.{range}"));
        parsed.map_err(|rule| {
            vxf_recipe::Error::setting(Place::Default, section, &rule, json!(range)).into()
        })
    };
    all.into_iter().map(read).collect()
}

/// One draw of all settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Key and value of each setting.
    pub values: Vec<(String, Value)>,
    /// The stages of the pipeline that it gives.
    stages: Vec<Map<String, Value>>,
}

/// A search over the settings of a recipe.
#[derive(Clone, Debug)]
pub struct Search {
    /// The candidates, each once.
    pub candidates: Vec<Candidate>,
    /// The seeds, one for each round.
    pub seeds: Vec<u64>,
    /// The largest harmful ratio, at which candidates are compared.
    pub ratio: f64,
    /// The name of the method.
    pub method: String,
    shared: Layer,
}

impl Search {
    /// `budget` candidates from `space`, drawn under `seed`; the first is the recipe as it is.
    ///
    /// # Errors
    /// When the recipe has axes, a setting of the space does not exist, is out of range or decides nothing, or
    /// the space has fewer candidates.
    pub fn of(layer: Layer, space: &[Dimension], budget: usize, seed: u64) -> Result<Self> {
        let own = Experiment::of(layer.clone())?;
        check(&layer, &own, space)?;
        let key = Key::root(seed).child("search");
        let candidates = candidates(&layer, &own, space, budget, &key)?;
        let recipe = own.recipe();
        let (seeds, method) = (recipe.settings.seeds.clone(), recipe.label());
        let ratio = recipe.settings.harmful_ratios.iter().copied().fold(0.0, f64::max);
        let mut shared = shared(layer)?;
        shared.set("harmful_ratios", json!([ratio]), Place::Default)?;
        Ok(Self { candidates, seeds, ratio, method, shared })
    }

    /// How many candidates each round has: all, then half of them, rounded up, and so on.
    pub fn rounds(&self) -> Vec<usize> {
        let (mut left, mut rounds) = (self.candidates.len(), Vec::new());
        for _ in &self.seeds {
            rounds.push(left);
            left = left.div_ceil(2);
        }
        rounds
    }

    /// The experiment of a round with these candidates, by index.
    ///
    /// # Errors
    /// When a candidate does not fit the recipe.
    pub fn round(&self, round: usize, candidates: &[usize]) -> Result<Experiment> {
        let mut layer = self.shared.clone();
        let lists = candidates.iter().map(|index| json!(self.candidates[*index].stages));
        layer.set("axes.stage", lists.collect(), Place::Default)?;
        layer.set("seeds", json!([self.seeds[round]]), Place::Default)?;
        Ok(Experiment::of(layer)?)
    }
}

/// Whether the two ends of a range give other stages.
fn decides_a_stage(layer: &Layer, dimension: &Dimension) -> Result<bool> {
    let at = |share: f64| -> Result<Vec<Map<String, Value>>> {
        let mut layer = layer.clone();
        let place = Place::Flag(format!("--over {}", dimension.key));
        layer.set(&dimension.key, dimension.at(share), place)?;
        Ok(stages(&Experiment::of(layer)?))
    };
    Ok(at(0.0)? != at(1.0)?)
}

/// Checks that there is something to search, and something to compare candidates by.
fn check(layer: &Layer, own: &Experiment, space: &[Dimension]) -> Result<()> {
    let wrong = |place: Place, key: &str, rule: &str, found: Value| {
        Err(vxf_recipe::Error::setting(place, key, rule, found).into())
    };
    if let Some(axis) = own.axes.first() {
        let key = format!("axes.{}", axis.key);
        let rule = "must not be an axis here: one method is searched at a time, and `--over` says what of it";
        return wrong(layer.place(&key), &key, rule, json!(axis.values));
    }
    let key = "harmful_ratios";
    let ratios = &own.recipe().settings.harmful_ratios;
    if ratios.iter().all(|ratio| *ratio == 0.0) {
        let rule = "must have a share above 0: candidates are compared under an attack";
        return wrong(layer.place(key), key, rule, json!(ratios));
    }
    let key = "baseline";
    if layer.values().get(key) == Some(&json!(false)) {
        let rule =
            "must not be set here: what a candidate loses is measured against plain alignment";
        return wrong(layer.place(key), key, rule, json!(false));
    }
    for (index, dimension) in space.iter().enumerate() {
        let key = &dimension.key;
        let rule = if space[..index].iter().any(|other| other.key == *key) {
            "must be searched in one range"
        } else if !decides_a_stage(layer, dimension)? {
            "must be a setting of a stage, its method or its perturber: nothing else is searched"
        } else {
            continue;
        };
        return wrong(Place::Flag(format!("--over {key}")), key, rule, json!("a range"));
    }
    Ok(())
}

/// The recipe as it is, then draws from `space` under `key`, each once, `budget` in all.
fn candidates(
    layer: &Layer,
    own: &Experiment,
    space: &[Dimension],
    budget: usize,
    key: &Key,
) -> Result<Vec<Candidate>> {
    let mut candidates = vec![Candidate { values: Vec::new(), stages: stages(own) }];
    // Draws that fall together are drawn again, a limited number of times: a space of choices is finite.
    for draw in 0..10 * budget as u64 {
        if candidates.len() >= budget {
            break;
        }
        let drawn = |it: &Dimension| (it.key.clone(), it.draw(key, draw));
        let values: Vec<_> = space.iter().map(drawn).collect();
        let mut at = layer.clone();
        for (key, value) in &values {
            at.set(key, value.clone(), Place::Flag(format!("--over {key}")))?;
        }
        let candidate = Candidate { values, stages: stages(&Experiment::of(at)?) };
        if !candidates.iter().any(|known| known.stages == candidate.stages) {
            candidates.push(candidate);
        }
    }
    match candidates.len() < budget {
        true => Err(Error::SmallSpace { found: candidates.len(), wanted: budget }),
        false => Ok(candidates),
    }
}

#[cfg(test)]
mod tests {
    use vxf_builtins as _;

    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_typed() {
        let range = |text: &str| Dimension::parse(text).map(|it| it.range);
        assert_eq!(range("perturber.rho=0.5..10"), Ok(Range::Even(0.5, 10.0)));
        assert_eq!(range("perturber.rho=1e-3..10:log"), Ok(Range::Logarithmic(1e-3, 10.0)));
        let choice = vec![json!("none"), json!("reuse")];
        assert_eq!(range("defense.between=none,reuse"), Ok(Range::Choice(choice)));
        for wrong in
            ["", "rho", "=1..2", "r=2..1", "r=0..1:log", "r=1..2:ln", "r=1..x", "r=1", "r=1,1"]
        {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn draws_lie_in_the_range_and_repeat_themselves() {
        let space = [Dimension::parse("perturber.rho=0.5..8:log").expect("a range")];
        let search = |seed| Search::of(Layer::new(), &space, 12, seed).expect("a search");
        let (one, again, other) = (search(1), search(1), search(2));
        assert_eq!(one.candidates, again.candidates);
        assert_ne!(one.candidates, other.candidates);
        assert_eq!(one.rounds(), [12, 6, 3]);
        assert!(one.candidates[0].values.is_empty(), "the recipe itself comes first");
        let drawn = one.candidates[1..].iter().map(|it| it.values[0].1.as_f64().expect("a number"));
        let drawn: Vec<f64> = drawn.collect();
        assert!(drawn.iter().all(|rho| (0.5..=8.0).contains(rho)), "{drawn:?}");
        // Half of an even logarithm lies below the root of the product.
        assert!(drawn.iter().any(|rho| *rho < 2.0) && drawn.iter().any(|rho| *rho > 2.0));
        let round = one.round(1, &[0, 3]).expect("a round");
        assert_eq!((round.points.len(), round.recipe().settings.seeds.as_slice()), (2, &[2][..]));
    }

    #[test]
    fn a_small_or_useless_space_is_refused() {
        let of = |text: &str| {
            let space = [Dimension::parse(text).expect("a range")];
            Search::of(Layer::new(), &space, 8, 1).expect_err("refused").to_string()
        };
        let error = of("alignment.epochs=4,16");
        assert!(error.contains("8") && error.contains("3"), "{error}");
        assert!(of("perturber.roh=1..2").contains("perturber.roh"));
        let error = of("world.harmful_test=10,20");
        assert!(error.contains("must be a setting of a stage"), "{error}");
    }
}
