//! `--track`: the Python package `vxf` follows an experiment and passes its values on to trackers.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::{Args as Group, ValueEnum};

use crate::args::HubOptions;
use crate::error::CommandError;
use crate::output::tell;

/// Names the interpreter that has the package.
const PYTHON: &str = "VXF_PYTHON";

/// Where values are passed on to.
#[derive(Debug, Default, Group)]
pub(crate) struct TrackOptions {
    /// Pass losses and figures on while they come: tensorboard (files in ./tensorboard), mlflow, wandb,
    /// trackio; comma-separated. Prompts and answers are not sent. Needs the Python package `vxf`.
    #[arg(long, value_name = "TRACKER", value_delimiter = ',')]
    track: Vec<Tracker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tracker {
    Tensorboard,
    Mlflow,
    Wandb,
    Trackio,
}

impl TrackOptions {
    /// Whether a tracker is named.
    pub(crate) fn any(&self) -> bool {
        !self.track.is_empty()
    }

    /// Checks, before anything is trained, that the trackers can be used.
    pub(crate) fn check(&self, finding: &HubOptions) -> Result<(), CommandError> {
        if !self.any() {
            return Ok(());
        }
        if finding.offline {
            let python = python();
            let python = python.display();
            let later =
                format!("`{python} -m vxf track EXPERIMENT --to TRACKER` sends its values later");
            return Err(CommandError::usage("--track: nothing is sent with --offline").hint(later));
        }
        let python = python();
        let tried =
            Command::new(&python).args(["-m", "vxf", "trackers", "--to", &self.names()]).output();
        let problem = match tried {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                text.lines().last().unwrap_or("it failed").to_owned()
            }
            Err(error) => error.to_string(),
        };
        // The package is there, and says what a tracker lacks.
        if let Some(lacking) = problem.strip_prefix("error: ") {
            return Err(CommandError::failed(format!("--track: {lacking}")));
        }
        let python = python.display();
        Err(CommandError::failed(format!(
            "--track needs the Python package `vxf`, which {python} does not find: {problem}"
        ))
        .hint("install the wheel, or set PYTHONPATH to the directory `python` of the sources")
        .hint(format!("{PYTHON} names another interpreter")))
    }

    /// The names of the trackers, with commas.
    fn names(&self) -> String {
        let names = self.track.iter().filter_map(ValueEnum::to_possible_value);
        names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(",")
    }

    /// Starts to follow the experiment in `root`, if a tracker is named.
    pub(crate) fn start(&self, root: &Path) -> Result<Option<Tracking>, CommandError> {
        if !self.any() {
            return Ok(None);
        }
        let (to, root) = (self.names(), root.to_owned());
        let child = command(&root, &to).arg("--follow").spawn();
        let child = child.map_err(|error| CommandError::failed(format!("--track: {error}")))?;
        Ok(Some(Tracking { child, root, to }))
    }
}

fn python() -> OsString {
    env::var_os(PYTHON).filter(|python| !python.is_empty()).unwrap_or_else(|| "python3".into())
}

/// Problems are told on stderr; the trackers' own output is no part of ours.
fn command(root: &Path, to: &str) -> Command {
    let mut command = Command::new(python());
    command.args(["-m", "vxf", "track"]).arg(root).args(["--to", to, "--quiet"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A process that follows an experiment. It ends with this command.
pub(crate) struct Tracking {
    child: Child,
    root: PathBuf,
    to: String,
}

impl Tracking {
    /// Waits until everything is sent. Tells what failed; the experiment is whole without it.
    pub(crate) fn finish(mut self, measured: bool) {
        let ended = if measured {
            self.child.wait()
        } else {
            // It would wait for figures that do not come.
            self.stop();
            command(&self.root, &self.to).status()
        };
        let problem = match ended {
            Ok(status) if status.success() => return,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let python = python();
        let (python, root) = (python.display(), self.root.display());
        let again = format!("{python} -m vxf track {root} --to {}", self.to);
        tell(&format!(
            "warning: --track did not send everything ({problem}); `{again}` sends the rest"
        ));
    }

    fn stop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.stop();
    }
}
