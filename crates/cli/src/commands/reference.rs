//! `vxf reference`: all commands, recipe keys and plugins as Markdown, made from their definitions.

use clap::{Arg, Command, CommandFactory};
use vxf_core::config::{DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig, Setting};
use vxf_core::registry::{self, Kind};
use vxf_data::DataConfig;
use vxf_recipe::reference::{self, Section};

use crate::args::Args;
use crate::error::CommandError;
use crate::output::print;

const ABOUT: &str = "\
# Reference

All commands, recipe keys and plugins. `vxf reference` prints this page from the program's own definitions, and \
a test compares the two.
";

pub(crate) fn run() -> Result<(), CommandError> {
    print(&text()?)
}

/// The whole page.
fn text() -> Result<String, CommandError> {
    let mut text = ABOUT.to_owned() + "\n## Commands\n";
    for command in Args::command().get_subcommands() {
        text += &of_command(command);
    }
    text += "\n## Keys of a recipe\n";
    for Section { names, about, settings } in reference::sections() {
        let names: Vec<_> = names.iter().map(|name| format!("`[{name}]`")).collect();
        let title = if names.is_empty() { "At the top".to_owned() } else { names.join(", ") };
        text += &format!("\n### {title}\n\n{about}\n\n{}", keys(&settings));
    }
    text += "\n### Sections that name plugins\n\n| section | content |\n|---|---|\n";
    for (name, about) in reference::plugin_sections() {
        text += &format!("| `[{name}]` | {} |\n", cell(about));
    }
    text += "\n## Plugins\n";
    of_kind::<dyn DefenseConfig>(&mut text)?;
    of_kind::<dyn PerturberConfig>(&mut text)?;
    of_kind::<dyn MetricConfig>(&mut text)?;
    of_kind::<dyn JudgeConfig>(&mut text)?;
    of_kind::<dyn DataConfig>(&mut text)?;
    text += "\n### Backbones\n\n| name | summary | `model_type` |\n|---|---|---|\n";
    for entry in vxf_hf::backbones()? {
        let types: Vec<_> =
            entry.family.model_types.iter().map(|kind| format!("`{kind}`")).collect();
        text += &format!("| `{}` | {} | {} |\n", entry.name, cell(entry.summary), types.join(", "));
    }
    Ok(text)
}

fn of_command(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n### `vxf {}`\n\n{about}.\n", command.get_name());
    let arguments: Vec<_> = command.get_arguments().filter(|one| !one.is_hide_set()).collect();
    let arguments: Vec<_> = arguments.into_iter().filter(|one| one.get_id() != "help").collect();
    if !arguments.is_empty() {
        text += "\n| argument | meaning |\n|---|---|\n";
    }
    for argument in arguments {
        text += &format!("| {} | {} |\n", spelled(argument), meaning(argument));
    }
    text
}

/// An argument as it is typed, in a cell of a table.
fn spelled(argument: &Arg) -> String {
    let takes = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let value: Vec<_> = names.iter().map(|name| name.as_str().to_owned()).collect();
    // A table is divided at every `|`, in code too.
    let value = value.join(" ").replace('|', "\\|");
    match argument.get_long() {
        None => format!("`{value}`"),
        Some(long) => {
            let short = argument.get_short().map_or(String::new(), |short| format!("`-{short}`, "));
            let value = if takes { format!(" {value}") } else { String::new() };
            format!("{short}`--{long}{value}`")
        }
    }
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let takes = argument.get_action().takes_values();
    let values: Vec<_> = match takes {
        true => {
            argument.get_possible_values().iter().map(|one| one.get_name().to_owned()).collect()
        }
        false => Vec::new(),
    };
    if !values.is_empty() {
        text += &format!("; one of {}", values.join(", "));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes && !defaults.is_empty() {
        text += &format!(" [default: {}]", defaults.join(" "));
    }
    cell(&text)
}

fn of_kind<C: Kind + ?Sized>(text: &mut String) -> Result<(), CommandError> {
    let entries = registry::entries::<C>()?;
    for entry in entries {
        let stages: Vec<_> = entry.stages.iter().map(ToString::to_string).collect();
        let stages = match stages.is_empty() {
            true => String::new(),
            false => format!(" Stages: {}.", stages.join(", ")),
        };
        let (kind, name) = (C::NAME, entry.name);
        *text += &format!(
            "\n### {kind} `{name}`\n\n{}.{stages} Paper: {}.\n",
            entry.summary, entry.paper
        );
        let settings = (entry.settings)();
        if !settings.is_empty() {
            *text += &format!("\n{}", keys(&settings));
        }
    }
    Ok(())
}

/// A table of settings.
fn keys(settings: &[Setting]) -> String {
    let mut text = "| key | default | meaning |\n|---|---|---|\n".to_owned();
    for setting in settings {
        let default = reference::default(setting);
        let default =
            default.map_or(String::new(), |default| format!("`{}`", default.replace('|', "\\|")));
        text += &format!("| `{}` | {default} | {} |\n", setting.name, cell(&setting.meaning));
    }
    text
}

/// A text of ours in a cell of a table.
fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('\n', " ");
    // Every second part is code, which stands as it is.
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.replace('<', "&lt;"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}
