//! `vxf show NAME`: a plugin, with summary, paper, settings and example recipe; or a section of a recipe.

use std::collections::BTreeMap;

use clap::Args as Group;
use serde_json::{Map, Value, json};
use vxf_core::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig, Setting};
use vxf_core::registry::{self, Entry, Kind};
use vxf_data::DataConfig;
use vxf_hf::BackboneEntry;
use vxf_recipe::reference::{self, Section};
use vxf_recipe::{UsualStage, Worldly, world_defaults};

use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};

#[derive(Debug, Group)]
pub(crate) struct ShowArgs {
    /// The name of a plugin, a section of a recipe such as `fine_tuning`, or `recipe` for all sections.
    pub(crate) name: String,
    /// With `recipe`: print its JSON Schema, for editors.
    #[arg(long)]
    pub(crate) schema: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The model of an example: these plugins are not for the embedded one.
const ANY_MODEL: &str = "path/to/model";

/// The name that stands for all sections of a recipe.
const RECIPE: &str = "recipe";

pub(crate) fn run(args: &ShowArgs) -> Result<(), CommandError> {
    if args.schema {
        return match args.name.as_str() {
            RECIPE => print_json(&vxf_recipe::schema::schema()?),
            name => Err(CommandError::usage(format!("`{name}` has no schema of its own"))
                .hint("`vxf show recipe --schema` prints the schema of a whole recipe")),
        };
    }
    let mut found = Vec::new();
    of_kind::<dyn DefenseConfig>(&args.name, &mut found)?;
    // What a durability test asks of a defence.
    for entry in &mut found {
        let defense = registry::default_of::<dyn DefenseConfig>(&args.name)?;
        let figures = defense.claims().iter().map(|claim| claim.figure);
        entry["claims"] = figures.collect();
        let attacker = defense.attacker().and_then(|it| Some(it.get("name")?.clone()));
        entry["attacker"] = attacker.into_iter().collect();
    }
    of_kind::<dyn PerturberConfig>(&args.name, &mut found)?;
    of_kind::<dyn MetricConfig>(&args.name, &mut found)?;
    of_kind::<dyn JudgeConfig>(&args.name, &mut found)?;
    of_kind::<dyn DataConfig>(&args.name, &mut found)?;
    let families = vxf_hf::backbones()?;
    found.extend(families.iter().filter(|entry| entry.name == args.name).map(|e| backbone(e)));
    // A plugin may be called like a section, as the data source `world`.
    if found.is_empty()
        && let Some(sections) = sections(&args.name)
    {
        return match args.json {
            true => print_json(&json!({ "schema_version": SCHEMA_VERSION, "sections": sections })),
            false => print(&sections.iter().map(section).collect::<Vec<_>>().join("\n")),
        };
    }
    if found.is_empty() {
        return Err(unknown(&args.name)?);
    }
    if args.json {
        return print_json(&json!({ "schema_version": SCHEMA_VERSION, "entries": found }));
    }
    let texts: Vec<_> = found.iter().map(describe).collect();
    print(&texts.join("\n"))
}

/// The sections called `name`; none if it is the name of no section.
fn sections(name: &str) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for Section { names, about, settings } in reference::sections() {
        all.push((names, about, settings));
    }
    for (name, about) in reference::plugin_sections() {
        all.push((vec![name], about, Vec::new()));
    }
    all.retain(|(names, ..)| name == RECIPE || names.contains(&name));
    let value = |(names, about, settings): &(Vec<&str>, &str, Vec<Setting>)| json!({ "names": names, "about": about, "settings": settings });
    (!all.is_empty()).then(|| all.iter().map(value).collect())
}

/// A section as text.
fn section(section: &Value) -> String {
    let names = section["names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<_> = names.map(|name| format!("[{name}]")).collect();
    let names = if names.is_empty() { "at the top".to_owned() } else { names.join(", ") };
    let mut out = format!("{names}\n");
    for line in lines(section["about"].as_str().unwrap_or_default()) {
        out += &format!("  {line}\n");
    }
    out + &settings(section)
}

/// The settings of a plugin or a section, with defaults and meanings.
fn settings(entry: &Value) -> String {
    let settings = entry["settings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = String::new();
    if !settings.is_empty() {
        out += "\n  settings\n";
    }
    for setting in settings {
        let name = setting["name"].as_str().unwrap_or_default();
        let world = match setting.get("embedded_world") {
            Some(own) => format!("; {own} in the embedded world"),
            None => String::new(),
        };
        let default = match &setting["default"] {
            Value::Null => " (not set)".to_owned(),
            default => format!(" = {default}"),
        };
        let searched = match setting["searched"].as_str() {
            Some(range) => format!("; searched in {range}"),
            None => String::new(),
        };
        out += &format!("    {name}{default}{world}{searched}\n");
        for line in lines(setting["meaning"].as_str().unwrap_or_default()) {
            out += &format!("      {line}\n");
        }
    }
    out
}

fn of_kind<C: Worldly + ?Sized>(name: &str, found: &mut Vec<Value>) -> Result<(), CommandError> {
    for entry in registry::entries::<C>()?.into_iter().filter(|entry| entry.name == name) {
        let world = world_defaults::<C>(name)?;
        let ranges = registry::default_of::<C>(name)?.ranges();
        let ranges: BTreeMap<_, _> =
            ranges.iter().filter_map(|range| range.split_once('=')).collect();
        let settings: Vec<_> = (entry.settings)()
            .into_iter()
            .map(|setting| {
                let mut value = json!({
                    "name": setting.name, "meaning": setting.meaning, "default": setting.default,
                });
                if let Some(own) = world.get(setting.name) {
                    value["embedded_world"] = own.clone();
                }
                if let Some(range) = ranges.get(setting.name) {
                    value["searched"] = json!(range);
                }
                value
            })
            .collect();
        found.push(json!({
            "kind": C::NAME, "name": entry.name, "summary": entry.summary, "paper": entry.paper,
            "stages": entry.stages, "package": entry.package, "settings": settings,
            "example": example(entry)?,
        }));
    }
    Ok(())
}

fn backbone(entry: &BackboneEntry) -> Value {
    json!({
        "kind": "backbone", "name": entry.name, "summary": entry.summary, "paper": entry.paper,
        "stages": [], "package": entry.package, "settings": [],
        "model_types": entry.family.model_types,
        "example": format!("[model]\npath = \"{ANY_MODEL}\"\n"),
    })
}

/// A recipe that uses the plugin, with all settings at their defaults.
fn example<C: Worldly + ?Sized>(entry: &Entry<C>) -> Result<String, CommandError> {
    let mut settings = Map::from_iter([("name".to_owned(), json!(entry.name))]);
    let world = world_defaults::<C>(entry.name)?;
    for setting in (entry.settings)() {
        let value = world.get(setting.name).unwrap_or(&setting.default);
        settings.insert(setting.name.to_owned(), value.clone());
    }
    // Serialized as a whole recipe, so that table settings become sections.
    let recipe = match C::NAME {
        "defense" => {
            let earliest = entry.stages.iter().min().map(|stage| UsualStage::of(*stage));
            json!({ (earliest.map_or("defense", |stage| stage.defense)): settings })
        }
        "perturber" => json!({ "perturber": settings }),
        "metric" => json!({ "metrics": [settings] }),
        "judge" => json!({ "judges": [settings] }),
        // Without paths this source has no data.
        "source" if entry.name == "files" => return Ok(String::new()),
        "source" => {
            settings.remove("name");
            match entry.name {
                "world" => json!({ "world": settings }),
                name => {
                    let named = Map::from_iter([("source".to_owned(), json!(name))]);
                    let data: Map<_, _> = named.into_iter().chain(settings).collect();
                    json!({ "model": { "path": ANY_MODEL }, "data": data })
                }
            }
        }
        _ => return Ok(String::new()),
    };
    Ok(toml::to_string(&without_nulls(recipe)).unwrap_or_default())
}

/// Removes nulls, which TOML does not have, at every level.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let given = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn describe(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    let list = |key: &str| {
        let items: Vec<_> =
            entry[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        items.join(", ")
    };
    let mut out = format!("{} {}\n  {}\n\n", text("kind"), text("name"), text("summary"));
    out += &format!("  paper    {}\n", text("paper"));
    for (label, key) in [
        ("stages ", "stages"),
        ("reads  ", "model_types"),
        ("lowers ", "claims"),
        ("attacker", "attacker"),
    ] {
        if !list(key).is_empty() {
            out += &format!("  {label}  {}\n", list(key));
        }
    }
    out += &format!("  package  {}\n", text("package"));
    out += &settings(entry);
    if !text("example").is_empty() {
        out += "\n  example recipe\n";
        for line in text("example").lines() {
            out += &format!("    {line}\n");
        }
    }
    out
}

/// Breaks a text into lines of at most 88 characters.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < 88 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn unknown(name: &str) -> Result<CommandError, CommandError> {
    fn names<C: Kind + ?Sized>() -> Result<Vec<String>, CommandError> {
        Ok(registry::entries::<C>()?.into_iter().map(|entry| entry.name.to_owned()).collect())
    }
    let mut known = names::<dyn DefenseConfig>()?;
    known.extend(names::<dyn PerturberConfig>()?);
    known.extend(names::<dyn MetricConfig>()?);
    known.extend(names::<dyn JudgeConfig>()?);
    known.extend(names::<dyn DataConfig>()?);
    known.extend(vxf_hf::backbones()?.into_iter().map(|entry| entry.name.to_owned()));
    known.sort();
    known.dedup();
    let near = registry::nearest(name, &known);
    let suggestion = match near.is_empty() {
        true => String::new(),
        false => format!("; did you mean {}?", near.join(" or ")),
    };
    Ok(CommandError::usage(format!("nothing is registered as `{name}`{suggestion}"))
        .hint(format!("`vxf list` shows what there is: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vxf_core::prelude::*;

    use super::*;

    vxf_core::config! {
        /// Settings of a defence with a table between two simple settings.
        pub struct TabledConfig {
            /// A simple setting.
            pub first: f64 = 0.5,
            /// A table.
            pub shares: BTreeMap<String, f64> = BTreeMap::from([("deep".to_owned(), 0.25)]),
            /// A simple setting after it.
            pub last: usize = 3,
        }
    }

    struct Tabled;

    impl Defense for Tabled {}

    #[typetag::serde(name = "tabled-example")]
    impl DefenseConfig for TabledConfig {
        fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
            Ok(Box::new(Tabled))
        }
    }

    vxf_core::register! {
        defense "tabled-example" => TabledConfig,
        summary: "A test's own.",
        paper: "none",
        stages: [Alignment],
    }

    #[test]
    fn an_example_with_a_table_is_a_recipe() {
        let mut found = Vec::new();
        of_kind::<dyn DefenseConfig>("tabled-example", &mut found).expect("registered");
        let example = found[0]["example"].as_str().expect("text");
        let layer = vxf_recipe::file::parse(example, "example.toml").expect("TOML");
        assert_eq!(layer.get("defense.shares.deep"), Some(&json!(0.25)), "{example}");
        assert_eq!(layer.get("defense.last"), Some(&json!(3)), "{example}");
        vxf_recipe::resolve(layer).expect("a recipe");
    }
}
