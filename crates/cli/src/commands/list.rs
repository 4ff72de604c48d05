//! `vxf list`: the registered plugins.

use serde_json::{Value, json};
use vxf_core::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig};
use vxf_core::registry::{self, Kind};
use vxf_data::DataConfig;
use vxf_report::TextTable;

use crate::args::{ListArgs, ListKind};
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};

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
            ListKind::Defenses => entries::<dyn DefenseConfig>()?,
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
    for (name, entries) in &all {
        let mut table = TextTable::new([(*name).to_owned()]);
        for entry in entries {
            let stages = entry["stages"].as_array().into_iter().flatten();
            let stages: Vec<_> = stages.filter_map(Value::as_str).collect();
            let cell = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            table.row([cell("name"), stages.join(", "), cell("summary")]);
        }
        text += &table.flush_left().render();
        text.push('\n');
    }
    print(&text)
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
