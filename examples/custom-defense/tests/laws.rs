//! The laws of each plugin in this crate, and tests of what each computes.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use custom_defense::{BrevityConfig, PullBackConfig, StepAwayConfig, VillageConfig};
use serde_json::json;
use vxf_core::metric::{Model, Probes, Prompt, Questions, Text, View};
use vxf_core::prelude::*;
use vxf_data::{DataConfig, DataContext, Locate, Purpose, Repository, Source};
use vxf_testkit::case::{Case, cases, property};
use vxf_testkit::metric::{Table, probes};
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::{Nothing, defense_of, gradient, references, samples, training};
// Registers the built-in plugins: `blend` has the perturber `vaccine`.
use vxf as _;

mod blend {
    use super::*;
    vxf_testkit::defense_laws!("blend", json!({ "share": 0.25 }));
}

mod step_away {
    use super::*;
    vxf_testkit::defense_laws!("step-away", json!({ "share": 0.5, "batch_size": 2 }));
}

mod pull_back {
    use super::*;
    vxf_testkit::defense_laws!("pull-back", json!({ "share": 0.25 }));
}

vxf_testkit::config_laws!(metric "brevity", json!({ "words": 2 }));
vxf_testkit::config_laws!(source "village", json!({ "samples": 12 }));

/// A stage on random samples, with a stream of harmful ones.
fn stage<'a>(
    case: &Case,
    backbone: &'a dyn Backbone,
    defense: Box<dyn Defense>,
) -> Result<vxf_core::minmax::Training<'a>> {
    let key = Key::root(case.seed);
    let stream = |name| (name, samples(backbone, 5, &key.child(name)));
    let streams = vec![stream("alignment"), stream("harmful")];
    let weights = case.weights(backbone)?;
    training(backbone, &weights, streams, defense, Box::new(Nothing))
}

#[test]
fn step_away_subtracts_the_harmful_gradient() {
    property(6, cases(), |case| {
        let case = Case { double: true, ..case };
        let backbone = case.backbone()?;
        let of =
            |defense| Ok::<_, vxf_core::Error>(gradient(stage(&case, &*backbone, defense)?)?.1);
        let config = StepAwayConfig { share: 0.5, ..StepAwayConfig::default() };
        let own = of(config.build(&BuildContext::bare())?)?;
        let main = of(defense_of(|step| step.on_main().gradients()))?;
        let harmful = of(defense_of(|step| {
            let (loss, gradients) = step.on("harmful").loss_and_gradients()?;
            step.record("loss", loss)?;
            Ok(gradients)
        }))?;
        assert!(harmful.norm()? > 0.0, "there is something to subtract");
        let off = own.sub(&main.add_scaled(&harmful, -0.5)?)?.norm()?;
        assert!(off < 1e-9, "off by {off}");
        Ok(())
    });
}

#[test]
fn pull_back_moves_what_alignment_changed() {
    property(6, cases(), |case| {
        let case = Case { double: true, lora: false, ..case };
        let backbone = case.backbone()?;
        let config = PullBackConfig { share: 0.25 };
        let finish = |same: bool| {
            let mut stage = stage(&case, &*backbone, config.build(&BuildContext::bare())?)?;
            let mut models = references(&*backbone, case.seed)?;
            if same {
                models.insert(Reference::Aligned, models[&Reference::Base].clone());
            }
            stage.session.references = models;
            stage.finish()
        };
        let before = case.weights(&*backbone)?;

        let aligned = references(&*backbone, case.seed)?[&Reference::Aligned].clone();
        let expected = before.iter().map(|(name, weight)| {
            let Some(module) = name.strip_suffix(".weight") else {
                return Ok((name.to_owned(), weight.clone()));
            };
            let moved = ((weight.detach() * 0.75)? + (aligned.weight(module)? * 0.25)?)?;
            Ok((name.to_owned(), moved))
        });
        let done = finish(false)?;
        let off = done.weights.sub(&expected.collect::<Result<Params>>()?)?.norm()?;
        assert!(off < 1e-9, "off by {off}");
        assert_eq!(done.figures["pulled_back"], 1.0);

        let untouched = finish(true)?;
        assert_eq!(first_difference(&before, &untouched.weights)?, None, "a weight that moved");
        assert_eq!(untouched.figures["pulled_back"], 0.0);
        Ok(())
    });
}

/// Decodes each token to a word; 0 ends an answer.
struct Words;

impl Text for Words {
    fn decode(&self, tokens: &[u32]) -> Result<String> {
        Ok("word ".repeat(tokens.len()))
    }

    fn is_end(&self, token: u32) -> bool {
        token == 0
    }

    fn opening(&self, _: &str) -> Option<u32> {
        None
    }
}

#[test]
fn brevity_is_the_share_of_short_answers() -> Result<()> {
    // After token 1 comes 1 forever, after 2 the end.
    let table = Table::new(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])?;
    let prompt =
        |token| Prompt { text: String::new(), tokens: vec![token], expected: None, group: None };
    let notes = Questions { prompts: [1, 2, 2, 2].map(prompt).to_vec(), max_new_tokens: 5 };
    let questions = BTreeMap::from([("notes".to_owned(), notes)]);
    let probes = Probes { questions, text: Box::new(Words), ..probes(BTreeMap::new(), 2) };
    let weights = Params::new();
    let view = View::new(Model { backbone: &table, weights: &weights }, &probes);
    let of = |words| -> Result<f64> {
        let metric: Box<dyn Metric> = BrevityConfig { words }.build(&BuildContext::bare())?;
        Ok(metric.measure(&view)?[0].value)
    };
    assert_eq!((of(4)?, of(5)?), (75.0, 100.0));
    Ok(())
}

/// A machine without data files.
struct Nowhere;

impl Locate for Nowhere {
    fn dataset(&self, _: &Source) -> vxf_data::Result<Box<dyn Repository + '_>> {
        let problem = "no files here".to_owned();
        Err(vxf_data::Error::Source { path: "nowhere".into(), problem })
    }
}

#[test]
fn the_village_has_what_it_says_in_words_of_the_world() -> Result<(), Box<dyn Error>> {
    let config = VillageConfig { samples: 12, prompts: 5, ..VillageConfig::default() };
    let context = DataContext { ratios: vec![0.5], locate: Arc::new(Nowhere), check: None };
    let (village, codec) = (config.open(&context)?, vxf_world::codec()?);
    for name in ["alignment", "harmful", "user"] {
        assert!(config.has(Purpose::Stream, name), "{name}");
        let drawn = village.stream(name, 3, 0.5)?;
        assert_eq!((drawn.len(), &drawn), (12, &village.stream(name, 3, 0.5)?), "{name}");
        drawn.iter().try_for_each(|sample| codec.encode(sample, usize::MAX).map(drop))?;
    }
    assert!(config.has(Purpose::Samples, "alignment"));
    assert_eq!(village.samples("alignment", 3)?.len(), 12);
    for name in ["harmful", "benign", "task", "notes"] {
        assert!(config.has(Purpose::Prompts, name), "{name}");
        let drawn = village.prompts(name, 3)?;
        assert_eq!(drawn.prompts, village.prompts(name, 3)?.prompts, "{name}");
        assert_ne!(drawn.prompts, village.prompts(name, 4)?.prompts, "{name}");
        assert_eq!(drawn.prompts.len(), 5, "{name}");
        drawn.prompts.iter().try_for_each(|(ask, _)| codec.prompt(ask).map(drop))?;
    }
    assert!(!config.has(Purpose::Stream, "notes"));
    assert!(village.stream("notes", 3, 0.5).is_err());
    Ok(())
}
