//! `vxf plot RUN [FIGURE]...`: curves of a run in the terminal.

use std::path::{Path, PathBuf};

use clap::Args as Group;
use vxf_report::plot::plot;
use vxf_report::{Curve, RunId};
use vxf_run::Stored;

use crate::args::EXIT_CODES;
use crate::error::CommandError;
use crate::output::{print, terminal};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PlotArgs {
    /// A run, done or under way: EXPERIMENT/<defense>/<ratio or aligned>/<seed>.
    pub(crate) run: PathBuf,
    /// Figures of its log, such as `loss` or `drift` [default: the first one].
    pub(crate) figures: Vec<String>,
}

/// Lines of a plot.
const HEIGHT: usize = 12;

/// Width where there is no terminal.
const WIDTH: usize = 80;

/// Wider plots are hard to read.
const WIDEST: usize = 120;

pub(crate) fn run(args: &PlotArgs) -> Result<(), CommandError> {
    let (stored, inside) = opened(&args.run)?;
    let id = chosen(&stored, &inside, &args.run)?;
    let shown = id.to_string();
    let curves = stored.curves()?;
    let curve = curves.iter().find(|curve| curve.run == id);
    let curve = curve.filter(|curve| !curve.names().is_empty()).ok_or_else(|| {
        CommandError::usage(format!("{shown}: no step of it was logged"))
            .hint("a run logs its steps while it trains; models that are not trained have no curve")
    })?;
    let wanted = match args.figures.is_empty() {
        true => vec![curve.names()[0].to_owned()],
        false => args.figures.clone(),
    };
    let width = terminal().width.unwrap_or(WIDTH).min(WIDEST);
    let mut text = String::new();
    for name in wanted {
        let name = found(curve, &name)?;
        let state = if curve.done { "" } else { ", under way" };
        text += &format!("{name} of {shown}{state}\n\n");
        match plot(&curve.values(name), width, HEIGHT) {
            Some(drawn) => text += &drawn,
            None => text += "  no finite value\n",
        }
        text.push('\n');
    }
    print(&text)
}

/// The experiment that `path` belongs to, and the path within it. A run under way has no directory of its
/// own yet.
fn opened(path: &Path) -> Result<(Stored, PathBuf), CommandError> {
    let there = path.ancestors().find(|above| above.is_dir()).unwrap_or(path);
    let stored = Stored::open(if there.as_os_str().is_empty() { path } else { there })?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let above = there.canonicalize().unwrap_or_else(|_| there.to_owned());
    let rest = path.strip_prefix(there).map_or_else(|_| absolute.clone(), Path::to_owned);
    let inside = above.join(rest);
    let inside = inside.strip_prefix(&stored.root).map_or(inside.clone(), Path::to_owned);
    Ok((stored, inside))
}

fn chosen(stored: &Stored, inside: &Path, path: &Path) -> Result<RunId, CommandError> {
    let same = |(id, _): &&(RunId, vxf_core::Stage)| {
        // A trailing empty part does not count.
        id.path().components().eq(inside.components())
    };
    stored.runs.iter().find(same).map(|(id, _)| id.clone()).ok_or_else(|| {
        let names: Vec<_> =
            stored.runs.iter().take(6).map(|(id, _)| id.path().display().to_string()).collect();
        CommandError::usage(format!("{}: name one run of the experiment", path.display()))
            .hint(format!("for example {}", names.join(", ")))
    })
}

/// The figure called `name`, or the only one whose name ends so: `drift` is `relative_drift` where there is
/// no other.
fn found<'a>(curve: &'a Curve, name: &str) -> Result<&'a str, CommandError> {
    let names = curve.names();
    if let Some(known) = names.iter().find(|known| **known == name) {
        return Ok(known);
    }
    let ends: Vec<_> = names.iter().filter(|known| known.ends_with(&format!("_{name}"))).collect();
    if let [only] = ends.as_slice() {
        return Ok(only);
    }
    let known = names.join(", ");
    Err(CommandError::usage(format!("the run logged no figure `{name}`")).hint(format!(
        "it logged {known}; `--eval-every STEPS` follows alignment loss and drift during the user's stage"
    )))
}
