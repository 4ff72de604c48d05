//! The manifest of an experiment: program, machine, inputs and times.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vxf_data::DataReport;

use crate::Result;
use vxf_access::device;
use vxf_access::{Base, ModelDigests};
use vxf_recipe::Experiment;
use vxf_report::SCHEMA_VERSION;
use vxf_report::samples::Overlap;

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Schema version.
    pub schema_version: u32,
    /// Program and version.
    pub program: String,
    /// SHA-256 of the recipe's settings that trained weights depend on, without paths; the content of the
    /// files is in `model`, `data` and `source`.
    pub recipe: String,
    /// SHA-256 of the model's files.
    pub model: ModelDigests,
    /// The commit of everything downloaded from the hub, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commits: BTreeMap<String, String>,
    /// Warnings about model files that other users could have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The model family.
    pub family: String,
    /// Number of weights of the model.
    pub weights: usize,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// SHA-256 of every data set, by seed.
    pub data: BTreeMap<String, BTreeMap<String, String>>,
    /// SHA-256 of the weights of the run that the experiment starts from; missing if it starts from the
    /// base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The report on the user's files; missing for the embedded world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<DataReport>,
    /// How many prompts of each test set are in a training set too, over all seeds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overlaps: BTreeMap<String, Overlap>,
    /// The machine.
    pub host: Host,
    /// Worker threads.
    pub threads: usize,
    /// The directory to which paths in a recipe of version 1 are relative.
    #[serde(default, skip_serializing_if = "no_path")]
    pub directory: PathBuf,
    /// The computing device.
    pub device: String,
    /// Start time in UTC.
    pub started: String,
    /// Time when the last run was done, in UTC; missing while runs are unfinished.
    pub finished: Option<String>,
    /// All resumptions by later processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Resumption>,
}

fn no_path(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

/// One resumption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumption {
    /// Time in UTC.
    pub at: String,
    /// Program and version.
    pub program: String,
    /// The machine.
    pub host: Host,
    /// Worker threads.
    pub threads: usize,
    /// The computing device.
    pub device: String,
}

/// The machine that ran an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Operating system.
    pub system: String,
    /// Processor family.
    pub architecture: String,
    /// The widest vector instructions in use.
    #[serde(default)]
    pub instructions: String,
    /// Number of hardware threads.
    pub cores: usize,
}

impl Manifest {
    /// The manifest of a new experiment. Reads the model's files for their digests.
    ///
    /// # Errors
    /// When a file of the model cannot be read.
    pub fn begin(experiment: &Experiment, base: &Base, threads: usize) -> Result<Self> {
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            program: format!("vxf {}", env!("CARGO_PKG_VERSION")),
            recipe: experiment.digest_by_content(),
            model: base.digests()?,
            commits: BTreeMap::new(),
            warnings: Vec::new(),
            source: None,
            family: base.outline.architecture.family.clone(),
            weights: base.outline.count(),
            seeds: experiment.recipe().settings.seeds.clone(),
            data: BTreeMap::new(),
            report: None,
            overlaps: BTreeMap::new(),
            host: Host::here(),
            threads,
            directory: PathBuf::new(),
            device: device::name(base.device()),
            started: now(),
            finished: None,
            resumed: Vec::new(),
        })
    }

    /// Adds a resumption by the process of `now`. Returns a warning if it differs from the previous one:
    /// equal bits are promised only for the same binary, instruction set and number of threads.
    pub fn resume(&mut self, now: &Self) -> Option<String> {
        let changed = match self.resumed.last() {
            None => self.conditions().changed(&now.conditions()),
            Some(last) => last.conditions().changed(&now.conditions()),
        };
        self.resumed.push(now.resumption());
        changed.map(|changed| format!("continues {changed}"))
    }

    /// A warning if a process of this experiment, of which `now` takes runs, had other conditions.
    pub(crate) fn differs(&self, now: &Self) -> Option<String> {
        let later = self.resumed.iter().map(Resumption::conditions);
        let mut all = std::iter::once(self.conditions()).chain(later);
        let changed = all.find_map(|then| then.changed(&now.conditions()));
        changed.map(|changed| format!("was made {changed}"))
    }

    /// Adds the process of `now`, a task, if no process before had the same conditions. Returns a warning
    /// then.
    pub(crate) fn join(&mut self, now: &Self) -> Option<String> {
        let first = self.conditions().changed(&now.conditions())?;
        let here = now.conditions();
        if self.resumed.iter().any(|other| other.conditions() == here) {
            return None;
        }
        let added = now.resumption();
        self.resumed.push(added);
        Some(format!("continues {first}"))
    }

    fn resumption(&self) -> Resumption {
        Resumption {
            at: now(),
            program: self.program.clone(),
            host: self.host.clone(),
            threads: self.threads,
            device: self.device.clone(),
        }
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions::of(&self.program, &self.host, self.threads, &self.device)
    }
}

impl Resumption {
    fn conditions(&self) -> Conditions<'_> {
        Conditions::of(&self.program, &self.host, self.threads, &self.device)
    }
}

/// What the last digits of figures may depend on besides recipe, model and data.
#[derive(PartialEq)]
struct Conditions<'a> {
    program: &'a str,
    processor: String,
    threads: usize,
    device: &'a str,
}

impl<'a> Conditions<'a> {
    fn of(program: &'a str, host: &Host, threads: usize, device: &'a str) -> Self {
        Self { program, processor: host.processor(), threads, device }
    }

    /// A warning that names what differs in `now`.
    fn changed(&self, now: &Self) -> Option<String> {
        let pairs = [
            ("program", self.program.to_owned(), now.program.to_owned()),
            ("processor", self.processor.clone(), now.processor.clone()),
            ("threads", self.threads.to_string(), now.threads.to_string()),
            ("device", self.device.to_owned(), now.device.to_owned()),
        ];
        let changed = pairs.iter().filter(|(_, then, here)| then != here);
        let changed: Vec<_> =
            changed.map(|(what, then, here)| format!("{what} {then} then, {here} now")).collect();
        let list = changed.join("; ");
        (!list.is_empty())
            .then(|| format!("under other conditions, last digits may differ: {list}"))
    }
}

impl Host {
    fn processor(&self) -> String {
        format!("{} {}", self.architecture, self.instructions).trim_end().to_owned()
    }

    fn here() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = name.or_else(|| std::env::var("HOSTNAME").ok());
        Self {
            name: name.map_or("unknown".to_owned(), |name| name.trim().to_owned()),
            system: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            instructions: vxf_tensor::processor::instructions().to_owned(),
            cores: cores(),
        }
    }
}

/// Number of hardware threads of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The current time, as `2026-01-31T12:00:00Z`.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    timestamp(seconds)
}

/// Seconds since 1970 as a date, by Hinnant's `civil_from_days`.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_right() {
        assert_eq!(super::timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::timestamp(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(super::timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(super::timestamp(1_767_225_600), "2026-01-01T00:00:00Z");
    }
}
