//! The experiments of a durability test.

use serde_json::{Map, Value, json};
use vxf_core::config::Claim;
use vxf_data::Purpose;
use vxf_recipe::settings::WORLD;
use vxf_recipe::{Experiment, Layer, Place, Recipe};

use super::attacks::{Attack, Profile, around, attacks};
use crate::pipelines::shared;
use crate::{Error, Result};

/// The metric of harmless requests that look forbidden.
const OVER_REFUSAL: &str = "over-refusal";

/// A durability test of the method of a recipe.
#[derive(Clone, Debug)]
pub struct Durability {
    /// The attacks that are tried.
    pub attacks: Vec<Attack>,
    /// Seeds on which the worst attack is found.
    pub seeds: Vec<u64>,
    /// Seeds on which it is tried again; none of them is among `seeds`.
    pub fresh: Vec<u64>,
    /// Harmful ratios.
    pub ratios: Vec<f64>,
    /// The name of the tested method.
    pub method: String,
    /// The figures that the method claims to lower.
    pub claims: Vec<Claim>,
    /// Whether an attack trains by an objective that the method gives an attacker who knows it.
    pub adaptive: bool,
    /// The setting that gives the user another task, if the data source has one.
    pub other_task: Option<(String, Value)>,
    /// Whether attacks with harmless samples are left out, because the data source has no set of them.
    pub harmful_only: bool,
    /// Whether attacks on all weights are left out, because the base is quantised.
    pub adapters_only: bool,
    /// The recipe's settings, without its stages.
    shared: Layer,
    before: Vec<Map<String, Value>>,
    after: Vec<Map<String, Value>>,
    user: Map<String, Value>,
}

/// One of the experiments.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The experiment.
    pub experiment: Experiment,
    /// The attack of each of its points, by index.
    pub attacks: Vec<usize>,
}

impl Durability {
    /// The test of the recipe in `layer`. `fresh` gives the fresh seeds; by default they follow the recipe's.
    ///
    /// # Errors
    /// When the recipe has axes, several stages of a user, no harmful ratio, or a seed is not fresh.
    pub fn of(layer: Layer, profile: Profile, fresh: &[u64]) -> Result<Self> {
        let experiment = Experiment::of(layer.clone())?;
        check(&layer, &experiment)?;
        let recipe = experiment.recipe();
        let attacks = attacks(recipe, profile)?;
        let adapters_only = super::attacks::adapters_only(recipe);
        let harmful_only = !recipe.data.config.has(Purpose::Stream, "benign");
        let objectives = super::attacks::objectives(recipe);
        let mut stages = attacks.iter().flat_map(|attack| &attack.stages);
        let adaptive =
            stages.any(|stage| stage.get("defense").is_some_and(|it| objectives.contains(it)));
        let user = super::attacks::user(recipe)?.value();
        let ratios = ratios(&layer, recipe, profile)?;
        let seeds = recipe.settings.seeds.clone();
        let fresh = fresh_seeds(&layer, &seeds, profile, fresh)?;
        let method = recipe.label();
        let claims = claims(recipe);
        let section = if recipe.data.name == WORLD { WORLD } else { "data" };
        let other_task = recipe.data.config.other_task();
        let other_task = other_task.map(|(key, value)| (format!("{section}.{key}"), value));
        let [before, after] = around(recipe);
        let shared = shared(layer)?;
        Ok(Self {
            attacks,
            seeds,
            fresh,
            ratios,
            method,
            claims,
            adaptive,
            other_task,
            harmful_only,
            adapters_only,
            shared,
            before,
            after,
            user,
        })
    }

    /// All attacks on the recipe's seeds.
    ///
    /// # Errors
    /// When an attack does not fit the recipe.
    pub fn search(&self) -> Result<Trial> {
        let all: Vec<usize> = (0..self.attacks.len()).collect();
        self.trial(self.shared.clone(), all, &self.ratios, &self.seeds)
    }

    /// The attacks with these indices on the fresh seeds, with the metrics of what the method claims;
    /// `held_out` are further settings, such as other prompts.
    ///
    /// # Errors
    /// When `held_out` does not fit the recipe.
    pub fn again(&self, attacks: &[usize], ratios: &[f64], held_out: &Layer) -> Result<Trial> {
        let mut layer = held_out.clone().over(self.shared.clone());
        add_metrics(&mut layer, self.claims.iter().map(|claim| claim.metric))?;
        self.trial(layer, attacks.to_vec(), ratios, &self.fresh)
    }

    /// The same where the user has another task: the settings `other`, or else what the data source states.
    ///
    /// # Errors
    /// When they do not fit the recipe.
    pub fn elsewhere(
        &self,
        attacks: &[usize],
        ratios: &[f64],
        held_out: &Layer,
        other: &Layer,
    ) -> Result<Option<Trial>> {
        let mut other = other.clone();
        if other.values().is_empty() {
            let Some((key, value)) = &self.other_task else { return Ok(None) };
            other.set(key, value.clone(), Place::Default)?;
        }
        let layer = other.clone().over(held_out.clone()).over(self.shared.clone());
        let trial = self.trial(layer, attacks.to_vec(), ratios, &self.fresh)?;
        let again = self.again(attacks, ratios, held_out)?;
        let [there, here] = [&trial, &again].map(|it| it.experiment.recipe().data.value());
        if there == here {
            let rule = "must give the user another task: these are the data of the recipe";
            let (key, value) = first_setting(other.values());
            return Err(wrong(&other, &key, rule, value));
        }
        Ok(Some(trial))
    }

    /// The recipe's own user without harmful data on the fresh seeds, measured with over-refusal where the data
    /// has such prompts.
    ///
    /// # Errors
    /// When such data cannot be drawn.
    pub fn benign(&self, held_out: &Layer) -> Result<Trial> {
        let mut layer = held_out.clone().over(self.shared.clone());
        let set = |layer: &mut Layer, key: &str, value| layer.set(key, value, Place::Default);
        set(&mut layer, "harmful_ratios", json!([0.0]))?;
        set(&mut layer, "seeds", json!(self.fresh))?;
        set(&mut layer, "stage", json!(self.pipeline(std::slice::from_ref(&self.user))))?;
        let experiment = Experiment::of(layer.clone())?;
        if experiment.recipe().data.config.has(Purpose::Prompts, "borderline") {
            add_metrics(&mut layer, [OVER_REFUSAL].into_iter())?;
        }
        Ok(Trial { experiment: Experiment::of(layer)?, attacks: Vec::new() })
    }

    fn pipeline(&self, user: &[Map<String, Value>]) -> Vec<Map<String, Value>> {
        [&self.before[..], user, &self.after[..]].concat()
    }

    fn trial(
        &self,
        mut layer: Layer,
        attacks: Vec<usize>,
        ratios: &[f64],
        seeds: &[u64],
    ) -> Result<Trial> {
        let lists = attacks.iter().map(|index| self.pipeline(&self.attacks[*index].stages));
        let lists: Vec<Value> = lists.map(|stages| json!(stages)).collect();
        layer.set("axes.stage", lists.into(), Place::Default)?;
        layer.set("harmful_ratios", json!(ratios), Place::Default)?;
        layer.set("seeds", json!(seeds), Place::Default)?;
        Ok(Trial { experiment: Experiment::of(layer)?, attacks })
    }
}

fn wrong(layer: &Layer, key: &str, rule: &str, found: Value) -> Error {
    vxf_recipe::Error::setting(layer.place(key), key, rule, found).into()
}

/// Checks that the recipe in `layer` is one method's, and leaves the attacks to the test.
fn check(layer: &Layer, experiment: &Experiment) -> Result<()> {
    if let Some(axis) = experiment.axes.first() {
        let rule =
            "must not be an axis here: `vxf durability` tests one method, and varies the attack";
        return Err(wrong(layer, &format!("axes.{}", axis.key), rule, json!(axis.values)));
    }
    let recipe = experiment.recipe();
    // Each of them would make the test compare something with itself, or nothing.
    for (key, given) in [
        ("from", !recipe.settings.from.is_empty()),
        ("stages", layer.values().contains_key("stages")),
        ("baseline", layer.values().get("baseline") == Some(&json!(false))),
    ] {
        if given {
            let rule = "must not be set here: `vxf durability` aligns the model by the method and plainly, and \
                        attacks both";
            let found = layer.values().get(key).cloned().unwrap_or_default();
            return Err(wrong(layer, key, rule, found));
        }
    }
    for method in &super::attacks::user(recipe)?.methods {
        if method.config.attacks() {
            let rule = "must be a defence: `vxf durability` chooses the attacks itself";
            return Err(wrong(layer, "fine_tune_defense.name", rule, json!(method.name)));
        }
    }
    Ok(())
}

/// The harmful ratios that the attacks are tried at.
fn ratios(layer: &Layer, recipe: &Recipe, profile: Profile) -> Result<Vec<f64>> {
    let given = &recipe.settings.harmful_ratios;
    let ratios: Vec<f64> = given.iter().copied().filter(|ratio| *ratio > 0.0).collect();
    let most = ratios.iter().copied().fold(0.0, f64::max);
    // Smaller shares of the same attack are weaker; they matter to a claim, not to a worst case.
    let ratios = match profile {
        Profile::Smoke | Profile::Standard => vec![most],
        Profile::Stress => ratios,
        // Its attackers have harmful data alone.
        Profile::TamperBench(_) => vec![1.0],
    };
    match ratios.iter().all(|ratio| *ratio == 0.0) {
        true => {
            let rule = "must have a share above 0: without harmful data there is no attack";
            Err(wrong(layer, "harmful_ratios", rule, json!(given)))
        }
        false => Ok(ratios),
    }
}

/// The seeds on which the worst attack is tried again: those `given`, or else those after the recipe's.
fn fresh_seeds(layer: &Layer, seeds: &[u64], profile: Profile, given: &[u64]) -> Result<Vec<u64>> {
    let next = seeds.iter().max().map_or(0, |most| most + 1);
    let fresh = match given {
        [] => (next..).take(profile.fresh_seeds()).collect(),
        given => given.to_vec(),
    };
    match fresh.iter().find(|seed| seeds.contains(seed)) {
        Some(seed) => {
            let rule =
                format!("must not have the fresh seed {seed}: the attack is chosen on these");
            Err(wrong(layer, "seeds", &rule, json!(seeds)))
        }
        None => Ok(fresh),
    }
}

/// What the methods of a recipe claim to lower, each figure once.
fn claims(recipe: &Recipe) -> Vec<Claim> {
    let methods = recipe.pipeline.iter().flat_map(|stage| &stage.methods);
    let mut claims: Vec<Claim> = Vec::new();
    for claim in methods.flat_map(|method| method.config.claims()) {
        if !claims.contains(claim) {
            claims.push(*claim);
        }
    }
    claims
}

/// The first setting in a table of sections, by its whole key, with its value.
fn first_setting(table: &Map<String, Value>) -> (String, Value) {
    let Some((key, value)) = table.iter().next() else {
        return ("data".to_owned(), Value::Null);
    };
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            let (rest, value) = first_setting(inner);
            (format!("{key}.{rest}"), value)
        }
        value => (key.clone(), value.clone()),
    }
}

/// Adds metrics that the recipe in `layer` does not measure.
fn add_metrics<'a>(layer: &mut Layer, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let experiment = Experiment::of(layer.clone())?;
    let recipe = experiment.recipe();
    let mut metrics: Vec<Value> = recipe.metrics.iter().map(|metric| metric.value()).collect();
    let missing = names.filter(|name| recipe.metrics.iter().all(|metric| metric.name != *name));
    metrics.extend(missing.map(|name| json!(name)));
    Ok(layer.set("metrics", json!(metrics), Place::Default)?)
}
