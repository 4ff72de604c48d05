//! Laws of a defence: it trains, is repeatable, resumes to the bit, and leaves alone what another freezes.

use proptest::prelude::*;
use serde_json::Value;
use vxf_core::backbone::Parameter;
use vxf_core::config::{BuildContext, DefenseConfig, PerturberConfig};
use vxf_core::minmax::Training;
use vxf_core::resume::Saved;
use vxf_core::{
    Backbone, Composition, Defense, Key, Params, Perturber, Reference, Result, Stage, Trainable,
    registry,
};

use crate::case::{Case, cases, property};
use crate::numbers::{first_difference, relative_distance};
use crate::training::{Nothing, few_samples, samples, training};

fn perturber(name: &str) -> Result<Box<dyn Perturber>> {
    match name {
        "none" => Ok(Box::new(Nothing)),
        name => registry::default_of::<dyn PerturberConfig>(name)?.build(&BuildContext::bare()),
    }
}

fn config(name: &str, settings: &Value) -> Result<Box<dyn DefenseConfig>> {
    let entry = registry::find::<dyn DefenseConfig>(name)?;
    Ok((entry.parse)(settings.clone())?)
}

/// The defence `name` in a stage of its own, with all possible streams.
fn stage<'a>(
    name: &str,
    settings: &Value,
    (case, accumulation): &(Case, usize),
    backbone: &'a dyn Backbone,
) -> Result<Training<'a>> {
    let entry = registry::find::<dyn DefenseConfig>(name)?;
    let config = (entry.parse)(settings.clone())?;
    let mut names = ["alignment", "user", "harmful", "guide", "calibration"];
    if !entry.stages.contains(&Stage::Alignment) {
        names.swap(0, 1);
    }
    let key = Key::root(case.seed);
    let stream = |(index, name)| {
        let key = key.child(name);
        // Epochs of different lengths, so that streams do not start over together.
        (name, samples(backbone, 5 + index, &key))
    };
    let mut streams: Vec<_> = names.iter().copied().enumerate().map(stream).collect();
    let needs = config.needs().streams;
    for need in needs.iter().filter(|need| !names.contains(&need.name.as_str())) {
        // A stream of its own: few samples, read again and again.
        let count = need.first.unwrap_or(5);
        let key = key.child(&need.name);
        let batch_size = need.batch_size.unwrap_or(3);
        streams.push((need.name.as_str(), few_samples(backbone, count, batch_size, &key)));
    }
    let weights = crate::training::weights(backbone, case.seed)?;
    let inner = perturber(config.perturber())?;
    let mut defense = config.build(&BuildContext::bare())?;
    if !config.makes_gradient() {
        // As in a run: it adjusts the plain gradient.
        defense = Box::new(Composition::new().with(entry.name, defense, false));
    }
    let mut stage = training(backbone, &weights, streams, defense, inner)?;
    stage.session.recompute = case.recompute();
    stage.session.accumulation = *accumulation;
    let mut references = crate::training::references(backbone, case.seed)?;
    if let Trainable::Lora(_) = backbone.trainable() {
        // An adapter stands on the aligned model.
        let below = references[&Reference::Base].clone();
        references.insert(Reference::Aligned, below);
    }
    stage.session.references = references;
    Ok(stage)
}

fn advance(stage: &mut Training<'_>, steps: u64) -> Result<()> {
    for _ in 0..steps {
        let loss = stage.step()?.loss()?;
        assert!(loss.is_finite(), "the recorded `loss` is {loss}");
    }
    Ok(())
}

fn situations() -> impl Strategy<Value = (Case, usize)> {
    (cases(), 1usize..=2)
}

/// Whether the defence edits all weights, and an adapter is trained.
fn out_of_reach(name: &str, settings: &Value, backbone: &dyn Backbone) -> Result<bool> {
    let whole = config(name, settings)?.needs_full_weights();
    Ok(whole && *backbone.trainable() != Trainable::Full)
}

/// The same stage twice gives the same bits, and the weights change.
pub fn repeats_itself(name: &str, settings: &Value) {
    property(8, situations(), |situation| {
        let backbone = situation.0.backbone()?;
        if out_of_reach(name, settings, &*backbone)? {
            return Ok(());
        }
        let run = || -> Result<(Params, Params)> {
            let mut stage = stage(name, settings, &situation, &*backbone)?;
            let before = stage.weights.copy()?;
            let trains = config(name, settings)?.trains();
            if trains {
                stage.prepare()?;
                advance(&mut stage, 3)?;
            }
            assert_eq!(first_difference(&before, &stage.weights)?.is_some(), trains, "moves");
            Ok((stage.finish()?.weights, before))
        };
        assert_eq!(first_difference(&run()?.0, &run()?.0)?, None, "a weight differs");
        Ok(())
    });
}

/// A stage that is stopped after k steps and resumed ends with the same bits: in the trained
/// weights, and in the result of the defence's `finish`.
pub fn resumes_to_the_bit(name: &str, settings: &Value) {
    property(12, (situations(), 0u64..=3, 0u64..=3), |(situation, before, after)| {
        let backbone = situation.0.backbone()?;
        let begin = || stage(name, settings, &situation, &*backbone);
        let trains = config(name, settings)?.trains();
        if !trains || out_of_reach(name, settings, &*backbone)? {
            return Ok(());
        }
        let mut whole = begin()?;
        whole.prepare()?;
        advance(&mut whole, before + after)?;

        let mut first = begin()?;
        first.prepare()?;
        advance(&mut first, before)?;
        let mut second = begin()?;
        resume(&mut second, first)?;
        advance(&mut second, after)?;
        assert_eq!(first_difference(&whole.weights, &second.weights)?, None, "a weight differs");
        let (whole, second) = (whole.finish()?, second.finish()?);
        let differs = first_difference(&whole.weights, &second.weights)?;
        assert_eq!(differs, None, "a finished weight differs");
        assert_eq!(whole.figures, second.figures, "figures of `finish`");
        Ok(())
    });
}

/// Freezes the lowest layer.
struct Held;

impl Defense for Held {
    fn freezes(&self, parameter: &Parameter) -> bool {
        parameter.layer == Some(0)
    }
}

/// Weights that another member of a composition freezes stay as they are: to the bit while the defence
/// trains, and up to rounding in the result of its `finish`.
pub fn leaves_frozen_weights_alone(name: &str, settings: &Value) {
    property(6, situations(), |situation| {
        let backbone = situation.0.backbone()?;
        let config = config(name, settings)?;
        if !config.trains() || out_of_reach(name, settings, &*backbone)? {
            return Ok(());
        }
        let parameters = backbone.parameters();
        if parameters.iter().all(|parameter| Held.freezes(parameter)) {
            return Ok(());
        }
        let mut stage = stage(name, settings, &situation, &*backbone)?;
        let alone = std::mem::replace(&mut stage.defense, Box::new(Held));
        let held = Composition::new().with(name, alone, true).with("held", Box::new(Held), false);
        stage.defense = Box::new(held);
        let held = |weights: &Params| -> Params {
            let names = parameters.iter().filter(|it| Held.freezes(it)).map(|it| &it.name);
            let own = names.filter_map(|name| Some((name.clone(), weights.get(name)?.clone())));
            own.collect()
        };
        let before = stage.weights.copy()?;
        stage.prepare()?;
        for _ in 0..3 {
            stage.step()?;
        }
        let moved = first_difference(&held(&before), &held(&stage.weights))?;
        assert_eq!(moved, None, "a frozen weight moved");
        let finished = held(&stage.finish()?.weights);
        let distance = relative_distance(&held(&before), &finished)?;
        assert!(distance < 1e-6, "`finish` moved frozen weights: {distance} of their norm");
        Ok(())
    });
}

/// Passes the contents of a checkpoint to `fresh`, by value, and drops the rest of `old`.
pub fn resume(fresh: &mut Training<'_>, old: Training<'_>) -> Result<()> {
    let Saved { tensors, position } = old.save()?;
    let copy = |(group, tensors): (String, Params)| Ok((group, tensors.copy()?));
    let tensors = tensors.into_iter().map(copy).collect::<Result<_>>()?;
    drop(old);
    // A checkpoint stores the rest as JSON text.
    let text = serde_json::to_string(&position).expect("plain data");
    let position = serde_json::from_str(&text).expect("JSON that was just written");
    fresh.resume(Saved { tensors, position })
}

/// Turns the laws of a registered defence into tests: `defense_laws!("vaccine", json!({}));`.
///
/// The laws of its settings are included ([`config_laws!`](crate::config_laws!)). Its inner player,
/// if any, must be linked too.
#[macro_export]
macro_rules! defense_laws {
    ($name:literal, $settings:expr) => {
        mod defense_laws {
            #[allow(unused_imports)]
            use super::*;

            $crate::config_laws!(defense $name, $settings);

            #[test]
            fn repeats_itself() {
                $crate::defense::repeats_itself($name, &$settings);
            }

            #[test]
            fn resumes_to_the_bit() {
                $crate::defense::resumes_to_the_bit($name, &$settings);
            }

            #[test]
            fn leaves_frozen_weights_alone() {
                $crate::defense::leaves_frozen_weights_alone($name, &$settings);
            }
        }
    };
}
