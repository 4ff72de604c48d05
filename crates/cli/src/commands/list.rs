//! `vxf list`: the registered plugins.

use clap::{Args as Group, ValueEnum};
use serde_json::{Value, json};
use vxf_core::Stage;
use vxf_core::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig};
use vxf_core::registry::{self, Kind};
use vxf_data::DataConfig;
use vxf_report::TextTable;

use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};

#[derive(Debug, Group)]
pub(crate) struct ListArgs {
    /// List only this kind.
    pub(crate) kind: Option<ListKind>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListKind {
    /// Published methods.
    Defenses,
    /// Methods that find perturbations, the inner player of the min-max step.
    Perturbers,
    /// Measurements of models.
    Metrics,
    /// Model families.
    Backbones,
    /// Judges of harmful answers.
    Judges,
    /// Sources of training and test data.
    Sources,
}

/// The kinds of plugins, with their names in flags.
const KINDS: [(ListKind, &str); 6] = [
    (ListKind::Defenses, "defenses"),
    (ListKind::Perturbers, "perturbers"),
    (ListKind::Metrics, "metrics"),
    (ListKind::Backbones, "backbones"),
    (ListKind::Judges, "judges"),
    (ListKind::Sources, "sources"),
];

pub(crate) fn run(args: &ListArgs) -> Result<(), CommandError> {
    let wanted = KINDS.iter().filter(|(kind, _)| args.kind.is_none_or(|only| only == *kind));
    let mut all = Vec::new();
    for (kind, name) in wanted {
        let entries = match kind {
            ListKind::Defenses => defenses()?,
            ListKind::Perturbers => entries::<dyn PerturberConfig>()?,
            ListKind::Metrics => entries::<dyn MetricConfig>()?,
            ListKind::Judges => entries::<dyn JudgeConfig>()?,
            ListKind::Sources => entries::<dyn DataConfig>()?,
            ListKind::Backbones => backbones()?,
        };
        all.push((*name, entries));
    }
    if args.json {
        let mut value = json!({ "schema_version": SCHEMA_VERSION });
        for (name, entries) in all {
            value[name] = entries.into();
        }
        return print_json(&value);
    }
    let mut text = String::new();
    let cell = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    for (name, entries) in &all {
        let mut tables = Vec::new();
        if *name == "defenses" {
            for stage in Stage::ALL {
                let heads = [format!("{name}: {stage}"), "passes".to_owned()];
                let mut table = TextTable::new(heads);
                let own = |entry: &&Value| {
                    entry["stages"].as_array().is_some_and(|all| all.contains(&json!(stage)))
                };
                for entry in entries.iter().filter(own) {
                    let passes = entry["passes"].as_f64();
                    let passes = passes.map_or("-".to_owned(), |passes| format!("{passes:.2}"));
                    let passes = passes.trim_end_matches('0').trim_end_matches('.').to_owned();
                    table.row([cell(entry, "name"), passes, cell(entry, "summary")]);
                }
                tables.push(table);
            }
        } else {
            let mut table = TextTable::new([(*name).to_owned()]);
            entries.iter().for_each(|it| table.row([cell(it, "name"), cell(it, "summary")]));
            tables.push(table);
        }
        for table in tables {
            text += &table.flush_left().render();
            text.push('\n');
        }
    }
    print(&text)
}

/// The defences, each with the passes of a step at its default settings, its own inner player included;
/// none for those that do not train.
fn defenses() -> Result<Vec<Value>, CommandError> {
    let mut entries = entries::<dyn DefenseConfig>()?;
    for entry in &mut entries {
        let name = entry["name"].as_str().unwrap_or_default();
        let Ok(config) = (registry::find::<dyn DefenseConfig>(name)?.parse)(json!({})) else {
            continue;
        };
        let inner = registry::find::<dyn PerturberConfig>(config.perturber())?;
        let inner = (inner.parse)(json!({})).map_or(0, |inner| inner.passes());
        let passes = config.passes() + config.perturbed_share() * inner as f64;
        entry["passes"] = json!(config.trains().then_some(passes));
    }
    Ok(entries)
}

fn entries<C: Kind + ?Sized>() -> Result<Vec<Value>, CommandError> {
    let entry = |entry: &registry::Entry<C>| {
        json!({
            "name": entry.name, "summary": entry.summary, "paper": entry.paper,
            "stages": entry.stages, "package": entry.package,
        })
    };
    Ok(registry::entries::<C>()?.into_iter().map(entry).collect())
}

fn backbones() -> Result<Vec<Value>, CommandError> {
    let entry = |entry: &vxf_hf::BackboneEntry| {
        json!({
            "name": entry.name, "summary": entry.summary, "paper": entry.paper,
            "model_types": entry.family.model_types, "package": entry.package,
        })
    };
    Ok(vxf_hf::backbones()?.into_iter().map(entry).collect())
}
