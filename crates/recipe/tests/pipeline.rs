//! Recipes as stages: the usual sections, the list of stages, axes, compositions, and resolved recipes.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vxf_builtins as _;
use vxf_core::prelude::*;
use vxf_recipe::{Error, Experiment, Point, Recipe, StageRecipe, USUAL, file};

/// A post-tuning method that changes nothing.
struct Untouched;

impl Defense for Untouched {}

vxf_core::config! {
    /// Settings of `untouched`.
    pub struct UntouchedConfig {
        /// A setting without effect.
        pub strength: f64 = 1.0,
    }
}

#[typetag::serde(name = "untouched")]
impl DefenseConfig for UntouchedConfig {
    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Untouched))
    }
}

vxf_core::register! {
    defense "untouched" => UntouchedConfig,
    summary: "Gives back what it gets",
    paper: "-",
    stages: [FineTuning, PostTuning],
}

fn resolved(text: &str) -> Result<Experiment, Error> {
    Experiment::of(file::parse(text, "recipe.toml")?)
}

fn experiment(text: &str) -> Experiment {
    resolved(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> String {
    resolved(text).map(drop).expect_err("refused").to_string()
}

/// What every point does to a model, stage by stage, with the values of the axes.
fn points(experiment: &Experiment) -> Vec<Value> {
    let stages = |stages: &[StageRecipe]| -> Value {
        stages.iter().map(|stage| Value::Object(stage.value())).collect()
    };
    let point = |point: &Point| {
        let values = point.values.iter().map(|(key, value)| (key.clone(), value.clone()));
        let values = Value::Object(values.collect());
        let rest = besides_stages(&point.recipe);
        Value::from(vec![values, stages(&point.recipe.pipeline), rest])
    };
    experiment.points.iter().map(point).collect()
}

/// The parts of a recipe that are not in its stages.
fn besides_stages(recipe: &Recipe) -> Value {
    let mut map = recipe.essence();
    map.remove("stage");
    for names in USUAL {
        for key in [names.defense, names.perturber, names.training] {
            map.remove(key);
        }
    }
    Value::Object(map)
}

const SECTIONS: &str = r#"
[defense]
name = "vaccine"
[perturber]
name = "vaccine"
rho = 2
[alignment]
learning_rate = 5e-4
[fine_tune_defense]
name = "ewc"
[fine_tuning]
epochs = 3
trainable = { type = "lora", r = 4 }
[post_tune_defense]
name = "untouched"
strength = 0.5
"#;

const LIST: &str = r#"
[[stage]]
kind = "alignment"
defense = "vaccine"
perturber = { name = "vaccine", rho = 2 }
learning_rate = 5e-4
[[stage]]
kind = "fine_tuning"
defense = { name = "ewc" }
epochs = 3
trainable = { type = "lora", rank = 4 }
[[stage]]
kind = "post_tuning"
defense = { name = "untouched", strength = 0.5 }
"#;

const FOUR: &str = r#"
[[stage]]
kind = "alignment"
[[stage]]
kind = "fine_tuning"
[[stage]]
kind = "post_tuning"
defense = "untouched"
[[stage]]
kind = "fine_tuning"
set = "alignment"
learning_rate = 1e-5
"#;

#[test]
fn sections_and_a_list_describe_the_same_stages() {
    let (sections, list) = (experiment(SECTIONS), experiment(LIST));
    assert_eq!(points(&sections), points(&list));
    assert_eq!(sections.value(), list.value());
    assert_eq!(sections.digest_by_content(), list.digest_by_content());

    let stages = &list.recipe().pipeline;
    let kinds: Vec<_> = stages.iter().map(|stage| stage.kind).collect();
    assert_eq!(kinds, [Stage::Alignment, Stage::FineTuning, Stage::PostTuning]);
    let sets: Vec<_> = stages.iter().map(|stage| stage.set.as_str()).collect();
    assert_eq!(sets, ["alignment", "user", "alignment"]);
    let trains: Vec<_> = stages.iter().map(StageRecipe::trains).collect();
    assert_eq!(trains, [true, true, false]);
    assert_eq!(stages[0].training.learning_rate, 5e-4);
    assert_eq!(stages[1].training.epochs, 3);

    let plain = "[[stage]]\nkind = \"alignment\"\n[[stage]]\nkind = \"fine_tuning\"\n";
    assert_eq!(points(&experiment("")), points(&experiment(plain)));
}

/// A section of training settings gives defaults for every stage of its kind.
#[test]
fn sections_of_training_are_defaults_of_the_list() {
    let text = format!("[fine_tuning]\nepochs = 7\nlearning_rate = 2e-3\n{FOUR}");
    let pipeline = experiment(&text).recipe().pipeline.clone();
    assert_eq!(pipeline.len(), 4);
    assert_eq!([pipeline[1].training.epochs, pipeline[3].training.epochs], [7, 7]);
    assert_eq!(pipeline[1].training.learning_rate, 2e-3);
    assert_eq!(pipeline[3].training.learning_rate, 1e-5);
    assert_ne!(pipeline[0].training.epochs, 7);
    assert_eq!(pipeline[3].set, "alignment");
}

/// A resolved recipe describes the same experiment: the same digest, and the same stages at every point.
#[test]
fn a_resolved_recipe_resolves_to_itself() {
    let with = |before: &str, after: &str| format!("{before}\n{after}");
    for text in [
        String::new(),
        SECTIONS.to_owned(),
        LIST.to_owned(),
        FOUR.to_owned(),
        "stages = \"alignment\"".to_owned(),
        "[fine_tune_defense]\nname = \"ewc+untouched\"".to_owned(),
        "[axes]\ndefense = [\"vaccine\", \"random\", \"sft\"]".to_owned(),
        "[axes.perturber]\nrho = [1, 3.5]\n[axes.fine_tuning]\nlearning_rate = [1e-4, 2e-4]"
            .to_owned(),
        "[axes]\nfine_tune_defense = [\"sft\", \"ewc\", \"kl\", \"ewc+untouched\"]".to_owned(),
        "[axes.alignment]\ntrainable = [\"full\", { type = \"lora\", rank = 2 }]".to_owned(),
        with(SECTIONS, "[axes.post_tune_defense]\nstrength = [0.25, 0.5]"),
        with(SECTIONS, "[axes]\npost_tune_defense = [\"untouched\"]"),
        with(FOUR, "[axes]\n\"stage.1.epochs\" = [1, 2]"),
        with(FOUR, "[axes]\n\"stage.0.defense\" = [\"vaccine\", \"random\", \"sft\"]"),
        with(FOUR, "[axes]\n\"stage.0.perturber.rho\" = [1, 2]"),
        with(FOUR, "[axes.fine_tuning]\nepochs = [2, 3]"),
        with(LIST, "[axes]\n\"stage.0.perturber.rho\" = [1, 2]"),
        with(LIST, "[axes]\n\"stage.0.defense.name\" = [\"vaccine\", \"sft\"]")
            .replace("defense = \"vaccine\"", "defense = { name = \"vaccine\" }"),
        with(LIST, "[axes.alignment]\nepochs = [2, 3]"),
        // Settings of the section apply where a stage has none, also with an axis among them.
        with("[alignment.trainable]\ntype = \"lora\"\nalpha = 3", LIST)
            + "[axes.alignment.trainable]\nrank = [2, 3]",
        // A value that changes other defaults.
        "[axes.world]\nprofile = [\"paper\", \"helpful\"]".to_owned(),
        "[fine_tuning]\nlearning_rate = 1e-3\n[axes.world]\nprofile = [\"paper\", \"helpful\"]"
            .to_owned(),
        // Settings of one method next to the name of another.
        with(SECTIONS, "[axes.defense]\nname = [\"vaccine\", \"random\"]"),
        "[axes]\nstage = [[{ kind = \"alignment\" }], [{ kind = \"alignment\", epochs = 2 }, \
         { kind = \"fine_tuning\" }]]"
            .to_owned(),
    ] {
        let first = experiment(&text);
        let toml = first.toml();
        let again = resolved(&toml).unwrap_or_else(|error| panic!("{error}\n{text}\n{toml}"));
        assert_eq!(points(&again), points(&first), "{text}\n{toml}");
        assert_eq!(again.digest_by_content(), first.digest_by_content(), "{text}\n{toml}");
        assert_eq!(again.toml(), toml, "{text}");
    }
}

/// The embedded world is the default source, and can be named like any other.
#[test]
fn the_world_can_be_named_as_the_source() {
    let toml = |text: &str| experiment(text).toml();
    assert_eq!(toml("[data]\nsource = \"world\"\n"), toml(""));
    let named = "[data]\nsource = \"world\"\nprofile = \"paper\"\nuser_samples = 40\n";
    assert_eq!(toml(named), toml("[world]\nprofile = \"paper\"\nuser_samples = 40\n"));
    assert!(refusal("[data]\nsource = \"world\"\n[world]\nuser_samples = 40\n").contains("data"));
}

#[test]
fn a_composition_has_at_most_one_gradient_maker() {
    for (section, stage) in [("defense", "vaccine+sft"), ("fine_tune_defense", "ewc+untouched+kl")]
    {
        let text = format!("\n[{section}]\nname = \"{stage}\"\n");
        let error = resolved(&text).expect_err("two makers");
        let Error::TwoMakers { place, first, second } = &error else { panic!("{error}") };
        assert_eq!(place.to_string(), "recipe.toml:3");
        assert!(stage.starts_with(first.as_str()) && stage.ends_with(second.as_str()), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(&format!("`{first}` and `{second}` both compute")), "{shown}");
    }
    let listed = "[[stage]]\nkind = \"alignment\"\ndefense = [\"vaccine\", \"sft\"]\n";
    assert!(matches!(resolved(listed), Err(Error::TwoMakers { .. })));

    let text = "[fine_tune_defense]\nname = \"ewc + untouched\"\n";
    let user = experiment(text).recipe().pipeline[1].clone();
    assert_eq!(
        user.methods.iter().map(|method| method.name).collect::<Vec<_>>(),
        ["ewc", "untouched"]
    );
    assert_eq!(user.maker().map(|method| method.name), Some("ewc"));
    assert_eq!(user.label(), "ewc_untouched");
    let error = refusal("[fine_tune_defense]\nname = \"ewc+untouched\"\nstrength = 2\n");
    assert!(error.starts_with("recipe.toml:3: `fine_tune_defense.strength`"), "{error}");
}

#[test]
fn errors_in_a_stage_have_their_location() {
    let at = |text: &str, words: &[&str]| {
        let error = refusal(&format!("[[stage]]\nkind = \"alignment\"\n[[stage]]\n{text}"));
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    at("kind = \"fine_tuning\"\nepoch = 2\n", &["recipe.toml:5", "`stage.1.epoch`", "`epochs`"]);
    at(
        "kind = \"fine_tuning\"\nepochs = 0\n",
        &["recipe.toml:5", "`stage.1.epochs`", "at least 1"],
    );
    at("kind = \"tuning\"\n", &["recipe.toml:4", "`stage.1.kind`", "post_tuning", "tuning"]);
    at("epochs = 2\n", &["recipe.toml:3", "`stage.1.kind`"]);
    at("kind = \"fine_tuning\"\nset = 2\n", &["recipe.toml:5", "`stage.1.set`"]);
    at("kind = \"post_tuning\"\n", &["recipe.toml:3", "`stage.1.defense`", "name the method"]);
    at(
        "kind = \"fine_tuning\"\ntrainable = { type = \"lora\", ranks = 2 }\n",
        &["recipe.toml:5", "`stage.1.trainable.ranks`", "`rank`"],
    );
    at(
        "kind = \"fine_tuning\"\nperturber = { name = \"vaccine\", roh = 2 }\n",
        &["recipe.toml:5", "`stage.1.perturber.roh`", "rho"],
    );
    at(
        "kind = \"fine_tuning\"\ndefense = \"vaccine\"\n",
        &["recipe.toml:5", "`vaccine` belongs to the stage `alignment`, not to `fine_tuning`"],
    );
    at("kind = \"fine_tuning\"\ndefense = \"vacine\"\n", &["recipe.toml:5", "`vacine`", "vaccine"]);
    at(
        "kind = \"fine_tuning\"\n[defense]\nname = \"sft\"\n",
        &["recipe.toml:5", "`defense` cannot be combined with a list of stages"],
    );
    let first = "[[stage]]\nkind = \"alignment\"\ncontinue_adapter = true\n";
    let error = refusal(first);
    assert!(error.starts_with("recipe.toml:3: `stage.0.continue_adapter`"), "{error}");
    let error = refusal("stage = \"alignment\"\n");
    assert!(error.contains("recipe.toml:1") && error.contains("[[stage]]"), "{error}");
}

#[test]
fn settings_of_a_stage_without_a_method_are_refused() {
    for section in ["post_tuning]\nepochs = 2", "post_tune_perturber]\nname = \"none\""] {
        let error = refusal(&format!("[{section}\n"));
        assert!(error.starts_with("recipe.toml:1: `post_tun"), "{error}");
        assert!(error.contains("needs `post_tune_defense`"), "{error}");
    }
}

#[test]
fn axes_are_lists_of_values_of_one_setting() {
    let refused = |axes: &str, words: &str| {
        let error = refusal(&format!("[axes]\n{axes}\n"));
        assert!(error.starts_with("recipe.toml:2: `axes."), "{error}");
        assert!(error.contains(words), "{error}");
    };
    refused("seeds = [1, 2]", "is a list already: write it outside of `axes`");
    refused("harmful_ratios = [0.0, 0.1]", "is a list already");
    refused("perturber.rho = []", "at least one value");
    refused("perturber.rho = [1, 2, 1]", "a value twice");
    refused("perturber.rho = 1", "a list of values");
    // One run would be measured with the first value only.
    refused("metrics = [[\"drift\"], [\"accuracy\"]]", "must not change `metrics`");
    refused("world.task_test = [10, 20]", "all its values give the same runs");
    refused("threads = [1, 2]", "must not change `threads`");
    // All runs share one model and one device.
    refused("model.dtype = [\"f32\", \"bf16\"]", "must not change `model.dtype`");
    refused("device = [\"cpu\", \"cuda\"]", "must not change `device`");
    refused("baseline = [true, false]", "must not change `baseline`");
    refused("judges = [[\"world\"], [\"refusal\"]]", "must not change `judges`");
    let own = "[[stage]]\nkind = \"alignment\"\nepochs = 1\n";
    let error = refusal(&format!("{own}[axes]\nalignment.epochs = [2, 4]\n"));
    assert!(error.contains("`axes.alignment.epochs`"), "{error}");
    let error = refusal("\naxes = [\"perturber.rho\"]\n");
    assert!(error.starts_with("recipe.toml:2: `axes` must be a table of lists"), "{error}");
    // An error about a value names its axis.
    let error = refusal("[axes]\nperturber.roh = [1, 2]\n");
    assert!(error.starts_with("recipe.toml:2: `perturber.roh`"), "{error}");
    let error = refusal("[axes]\nperturber.rho = [1, -2]\n");
    assert!(error.starts_with("recipe.toml:2: `perturber.rho`"), "{error}");
    let many: Vec<_> = (1..=101).map(|value| value.to_string()).collect();
    let many = many.join(", ");
    let error =
        refusal(&format!("[axes]\nperturber.rho = [{many}]\nalignment.epochs = [{many}]\n"));
    assert!(error.contains("at most 10000 points"), "{error}");
}

#[test]
fn the_points_are_the_product_of_the_axes() {
    let text = "[axes]\nperturber.rho = [1, 3]\nfine_tuning.epochs = [2, 4, 6]\n";
    let experiment = experiment(text);
    let seen = experiment.points.iter().map(|point| {
        let stages = &point.recipe.pipeline;
        (stages[0].perturber.value()["rho"].as_f64(), stages[1].training.epochs)
    });
    let seen: Vec<_> = seen.collect();
    let wanted: Vec<_> =
        [1.0, 3.0].iter().flat_map(|rho| [2, 4, 6].map(|epochs| (Some(*rho), epochs))).collect();
    assert_eq!(seen, wanted);
}

/// Another method has its own perturber, unless the recipe names one.
#[test]
fn each_method_on_an_axis_has_its_own_perturber() {
    let inner = |text: &str| -> Vec<&str> {
        let points = experiment(text).points;
        points.iter().map(|point| point.recipe.pipeline[0].perturber.name).collect()
    };
    let axis = "[axes]\ndefense = [\"vaccine\", \"sft\"]\n";
    assert_eq!(inner(axis), ["vaccine", "none"]);
    assert_eq!(inner(&format!("[perturber]\nname = \"none\"\n{axis}")), ["none", "none"]);
}

fn recipes(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of recipes") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            recipes(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_published_recipe_resolves_to_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/recipes");
    let mut found = Vec::new();
    recipes(&root, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for path in found {
        let shown = path.display();
        let layer = file::read(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let first = Experiment::of(layer).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let mut kinds: Vec<_> = first.recipe().pipeline.iter().map(|stage| stage.kind).collect();
        // An attack may have several stages.
        kinds.dedup();
        assert_eq!(kinds, [Stage::Alignment, Stage::FineTuning], "{shown}");
        let again = experiment(&first.toml());
        assert_eq!(points(&again), points(&first), "{shown}");
        assert_eq!(again.digest_by_content(), first.digest_by_content(), "{shown}");
    }
}
