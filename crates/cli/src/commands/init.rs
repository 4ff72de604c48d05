//! `vxf init [FILE]`: writes a commented recipe for the model and the data that are there.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args as Group;
use serde_json::{Value, json};
use vxf_core::config::Documented;
use vxf_core::{Key, registry};
use vxf_data::{DataConfig, LocalRepository, Part, Schema, Source};
use vxf_recipe::settings::{EMBEDDED, ModelSettings, Settings, TrainingSettings};
use vxf_recipe::{Experiment, USUAL};
use vxf_run::Estimate;

use crate::args::{EXIT_CODES, RecipeOptions};
use crate::commands::layers;
use crate::error::CommandError;
use crate::output::print;
use crate::progress::access;

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct InitArgs {
    /// The recipe to write; it must not exist yet. Data is looked for beside it: files called alignment,
    /// user, harmful, harmful_test, task_test or benign_test, ending in .jsonl, .json, .csv, .tsv or
    /// .parquet, here or in `data`.
    #[arg(default_value = "recipe.toml")]
    pub(crate) file: PathBuf,
    /// Model directory in the Hugging Face layout, or hub id [default: the embedded model].
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model: Option<String>,
}

/// Endings of data files, in the order in which they are looked for.
const ENDINGS: [&str; 5] = ["jsonl", "json", "csv", "tsv", "parquet"];

/// Folders in which data is looked for, from the recipe's own.
const FOLDERS: [&str; 2] = ["", "data"];

/// The user's samples, if there are enough.
const USER_SAMPLES: usize = 1000;

/// Keys for the lengths of samples and answers.
const LENGTHS: [&str; 3] = ["max_length", "max_new_tokens", "task_new_tokens"];

/// Width of comments.
const WIDTH: usize = 96;

pub(crate) fn run(args: &InitArgs) -> Result<(), CommandError> {
    let (file, shown) = (&args.file, args.file.display());
    if file.exists() {
        let message = format!("{shown} already exists; nothing is overwritten");
        return Err(CommandError::usage(message).hint("name another file: `vxf init FILE`"));
    }
    // A wrong path is told as one of the flag, not as one of a recipe that does not exist yet.
    let flag = RecipeOptions { model: args.model.clone(), ..RecipeOptions::default() };
    layers::recipe(None, &flag)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let found = found(folder)?;
    // With data of one's own, the model is one's own too: the embedded one knows only its own words.
    let model = args.model.as_deref().unwrap_or(EMBEDDED);
    let data = Data::of(found, model)?;
    let text = recipe(model, &absolute(model, folder), &data)?;
    // Never over a file that has come meanwhile.
    let written = fs::File::create_new(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let failed = CommandError::failed(format!("cannot write {shown}: {error}"));
        match error.kind() {
            ErrorKind::NotFound => failed.hint("the recipe's directory must exist"),
            _ => failed.hint("name a file in a directory that can be written: `vxf init FILE`"),
        }
    })?;
    let checked = layers::recipe(Some(file), &RecipeOptions::default())
        .and_then(|recipe| Ok(Estimate::of(&recipe, access(true)?)?));
    let estimate = match checked {
        Ok(estimate) => estimate,
        Err(error) => {
            // A recipe that does not run is of no use.
            let _ = fs::remove_file(file);
            return Err(error);
        }
    };
    let runs = estimate.graph.runs.len();
    print(&format!(
        "{shown} is a recipe for {model} with {}: {runs} runs\n\n  vxf validate {shown}   checks it and prints \
         its cost\n  vxf run {shown}        runs it\n",
        data.described()
    ))
}

/// A set of samples that was found.
struct Found {
    part: Part,
    path: PathBuf,
    samples: usize,
    schema: Schema,
}

/// The files beside the recipe that are called like a set.
fn found(folder: &Path) -> Result<Vec<Found>, CommandError> {
    let mut all = Vec::new();
    for part in Part::ALL {
        let names = FOLDERS.iter().flat_map(|sub| {
            ENDINGS.iter().map(|ending| Path::new(sub).join(format!("{}.{ending}", part.key())))
        });
        let mut there = names.filter(|path| folder.join(path).is_file());
        let Some(path) = there.next() else { continue };
        let place = folder.join(&path);
        let source = Source { path: place.display().to_string(), ..Source::default() };
        let repository = LocalRepository::open(&place).map_err(vxf_run::Error::from)?;
        let mut rng = Key::root(1).rng();
        let loaded = source.read(&repository, part.usage(), false, None, &mut rng);
        let loaded = loaded.map_err(vxf_run::Error::from)?;
        let (samples, schema) = (loaded.samples.len(), loaded.schema);
        all.push(Found { part, path, samples, schema });
    }
    Ok(all)
}

/// Where the data comes from.
enum Data {
    /// The embedded world.
    World,
    /// The invented task that goes with any model.
    Proxy,
    /// Files.
    Files(Vec<Found>),
}

impl Data {
    fn of(found: Vec<Found>, model: &str) -> Result<Self, CommandError> {
        let has = |part: Part| found.iter().any(|one| one.part == part);
        match (found.is_empty(), model == EMBEDDED) {
            (true, true) => Ok(Self::World),
            (true, false) => Ok(Self::Proxy),
            (false, true) => {
                let names: Vec<_> =
                    found.iter().map(|one| one.path.display().to_string()).collect();
                let message = format!(
                    "{} are data of your own, which the embedded model does not know",
                    names.join(", ")
                );
                Err(CommandError::usage(message).hint(
                    "name a model with `--model DIR`, or write the recipe into another directory",
                ))
            }
            (false, false) => {
                let needed = [Part::Alignment, Part::User].into_iter().find(|part| !has(*part));
                match needed {
                    None => Ok(Self::Files(found)),
                    Some(part) => {
                        let key = part.key();
                        let message = format!(
                            "there is data here, but no {key}.jsonl (or .json, .csv, .tsv, .parquet)"
                        );
                        Err(CommandError::usage(message).hint(format!(
                            "every experiment needs `alignment` and `user`; a recipe may also name any other \
                             file: `[data.{key}] path = \"..\"`"
                        )))
                    }
                }
            }
        }
    }

    fn described(&self) -> String {
        match self {
            Self::World => "the embedded world's data".to_owned(),
            Self::Proxy => "the source `proxy`, an invented and harmless stand-in".to_owned(),
            Self::Files(found) => {
                let one = |one: &Found| format!("{} ({} samples)", one.path.display(), one.samples);
                found.iter().map(one).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn count(&self, part: Part) -> Option<usize> {
        let Self::Files(found) = self else { return None };
        found.iter().find(|one| one.part == part).map(|one| one.samples)
    }
}

/// A local path as it is written in a recipe, which stands in `folder`.
fn absolute(model: &str, folder: &Path) -> String {
    let path = Path::new(model);
    match path.is_dir() && path.is_relative() && folder != Path::new("") {
        true => {
            std::path::absolute(path).map_or(model.to_owned(), |path| path.display().to_string())
        }
        false => model.to_owned(),
    }
}

/// The text of the recipe.
fn recipe(model: &str, path: &str, data: &Data) -> Result<String, CommandError> {
    let ratios = match data {
        Data::Files(_) if data.count(Part::Harmful).is_none() => json!([0.0]),
        _ => json!([0.0, 0.1, 0.2]),
    };
    // Defaults depend on model and data: read them from a recipe that says no more than these.
    let defaults = defaults(model, data)?;
    let mut text = Text(
        "# A recipe of vxf. Paths are relative to this file. `vxf show recipe` lists every key, and\n\
         # `vxf show NAME` the settings of a method, perturber, metric or judge.\n"
            .to_owned(),
    );
    let settings = Settings::settings();
    text.key(&settings, "seeds", &defaults["seeds"]);
    text.key(&settings, "harmful_ratios", &ratios);
    if let Data::Files(_) = data {
        text.line("\n# What is measured, as far as there is data for it.");
        text.line(&format!("metrics = {}", toml(&json!(metrics(data)))));
        text.line("\n# Which answers are harmful: here those without the words of a refusal. `vxf list judges`.");
        text.line("judges = [\"refusal\"]");
    }
    text.line("\n[model]");
    let own = ModelSettings::settings();
    text.key(&own, "path", &json!(path));
    text.key(&own, "dtype", &defaults["model"]["dtype"]);
    text.line("\n# The method under test. Plain fine-tuning (`sft`) is run beside it. `vxf list defenses`.");
    text.line("[defense]\nname = \"vaccine\"");
    text.line("\n[perturber]\nname = \"vaccine\"");
    text.line("# Norm of the perturbation of the hidden embeddings, for each batch.");
    text.line(&format!("rho = {}", toml(&defaults["perturber"]["rho"])));
    for (usual, about) in
        USUAL.iter().zip(["The provider aligns the model.", "The user fine-tunes it."])
    {
        text.line(&format!("\n# {about}\n[{}]", usual.training));
        let training = TrainingSettings::settings();
        for key in ["trainable", "learning_rate", "epochs", "batch_size"] {
            text.key(&training, key, &defaults[usual.training][key]);
        }
    }
    text.data(data, model)?;
    Ok(text.0)
}

/// The metrics for which there is data.
fn metrics(data: &Data) -> Vec<&'static str> {
    let with = |part, metric| data.count(part).map(|_| metric);
    [
        with(Part::HarmfulTest, "harmful-score"),
        with(Part::BenignTest, "helpfulness"),
        with(Part::TaskTest, "accuracy"),
        Some("alignment-loss"),
        Some("drift"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The settings of a recipe of this model and data that says nothing else.
fn defaults(model: &str, data: &Data) -> Result<Value, CommandError> {
    let mut lines = vec![format!("model.path = {}", toml(&json!(model)))];
    match data {
        Data::World => {}
        Data::Proxy => lines.push("data.source = \"proxy\"".to_owned()),
        Data::Files(_) => lines.push("data.template = \"auto\"".to_owned()),
    }
    let layer = vxf_recipe::file::parse(&lines.join("\n"), "defaults")?;
    Ok(Value::Object(Experiment::of(layer)?.value()))
}

/// A recipe as it grows.
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0 += line;
        self.0.push('\n');
    }

    /// A key with its meaning above it.
    fn key(&mut self, settings: &[vxf_core::config::Setting], name: &str, value: &Value) {
        let meaning = settings.iter().find(|setting| setting.name == name);
        let meaning = meaning.map(|setting| setting.meaning.as_str()).unwrap_or_default();
        let mut line = "#".to_owned();
        for word in meaning.split_whitespace() {
            if line.len() + word.len() >= WIDTH {
                self.line(&line);
                line = "#".to_owned();
            }
            line.push(' ');
            line += word;
        }
        self.line(&line);
        self.line(&format!("{name} = {}", toml(value)));
    }

    /// The lengths that the source of data can set, at their defaults and switched off.
    fn lengths(&mut self, source: &str) -> Result<(), CommandError> {
        let settings = (registry::find::<dyn DataConfig>(source)?.settings)();
        let of = |name: &&str| settings.iter().find(|setting| setting.name == *name);
        for setting in LENGTHS.iter().filter_map(of) {
            let default = toml(&setting.default);
            self.line(&format!("# {}\n# {} = {default}", setting.meaning, setting.name));
        }
        Ok(())
    }

    fn data(&mut self, data: &Data, model: &str) -> Result<(), CommandError> {
        match data {
            Data::World => {
                self.line("\n# Data and tests come from the embedded world. `vxf show world` lists its settings.");
                self.line("[world]\n# The user's task: sst2, agnews or gsm8k.\ntask = \"sst2\"");
                self.lengths("world")?;
            }
            Data::Proxy => {
                self.line("\n# An invented and harmless stand-in for data: cooking plays the forbidden topic.");
                self.line("# Replace it by files of your own: a section `[data.alignment]` with `path = \"..\"`,");
                self.line("# and so on for the sets that `vxf show files` lists.");
                self.line("[data]\nsource = \"proxy\"");
                self.lengths("proxy")?;
            }
            Data::Files(found) => self.files(data, found, model)?,
        }
        Ok(())
    }

    fn files(&mut self, data: &Data, found: &[Found], model: &str) -> Result<(), CommandError> {
        self.line("\n[data]");
        let model = Path::new(model);
        let takes = match (model.is_dir(), has_chat_template(model)) {
            (true, true) => "the model has a chat template, which `auto` takes",
            (true, false) => "the model has no chat template: `auto` takes alpaca",
            (false, _) => "`auto` takes the model's chat template, or alpaca if it has none",
        };
        self.line(&format!("# The template around prompts: auto, alpaca, chat or plain; {takes}."));
        self.line("template = \"auto\"");
        let user = data.count(Part::User).unwrap_or(0);
        let harmful = data.count(Part::Harmful).map_or(USER_SAMPLES, |count| count * 5);
        self.line("# Samples in the user's set: its own, and the harmful share of them.");
        self.line(&format!("user_samples = {}", USER_SAMPLES.min(user).min(harmful)));
        let graded = [Schema::Sst2, Schema::Agnews, Schema::Gsm8k];
        if let Some(task) = found.iter().find(|one| one.part == Part::TaskTest)
            && !graded.contains(&task.schema)
        {
            self.line("# How answers to the user's task are graded: exact, sst2, agnews or gsm8k.");
            self.line("task = \"exact\"");
        }
        self.lengths("files")?;
        for one in found {
            let path = toml(&json!(one.path.display().to_string()));
            let (key, schema, samples) = (one.part.key(), one.schema, one.samples);
            self.line(&format!("\n# {samples} samples in the schema {schema}."));
            self.line(&format!("[data.{key}]\npath = {path}"));
        }
        Ok(())
    }
}

/// Whether a model directory brings a chat template.
fn has_chat_template(model: &Path) -> bool {
    let config = vxf_untrusted::text(&model.join("tokenizer_config.json"), vxf_untrusted::LARGE);
    let config = config.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let in_config =
        config.is_some_and(|config| config.get("chat_template").is_some_and(|it| !it.is_null()));
    in_config || model.join("chat_template.jinja").is_file()
}

/// A value as it is written in a recipe; tables in one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let given = map.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<_> =
                given.map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        value => toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default(),
    }
}
