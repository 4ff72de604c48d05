//! The manifest of an experiment: what made it, where, from what, and when.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vxf_data::DataReport;

use crate::Result;
use crate::device;
use crate::model::{Base, ModelDigests};
use vxf_recipe::Experiment;
use vxf_report::SCHEMA_VERSION;

/// What `manifest.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout.
    pub schema_version: u32,
    /// Program and version.
    pub program: String,
    /// SHA-256 of all that trained weights depend on in the recipe, paths left out: what lies there
    /// is in `model`, `data` and `source`.
    pub recipe: String,
    /// SHA-256 of the model's files.
    pub model: ModelDigests,
    /// The commit of everything that came from the hub, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commits: BTreeMap<String, String>,
    /// What others could have changed of the models that were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The model family.
    pub family: String,
    /// How many weights the model has.
    pub weights: usize,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// SHA-256 of every data set, by seed.
    pub data: BTreeMap<String, BTreeMap<String, String>>,
    /// SHA-256 of the weights of the aligned run that the user's stage starts from; none if it is
    /// aligned here, or that run trained nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What was read from the user's files; nothing for the embedded world.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<DataReport>,
    /// The machine.
    pub host: Host,
    /// Worker threads.
    pub threads: usize,
    /// The directory that relative paths in the recipe of version 1 are seen from.
    #[serde(default, skip_serializing_if = "no_path")]
    pub directory: PathBuf,
    /// Where it was computed.
    pub device: String,
    /// When it began, in UTC.
    pub started: String,
    /// When its last run was done, in UTC; none while there is work left.
    pub finished: Option<String>,
    /// Every time that another process went on with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Resumption>,
}

fn no_path(path: &std::path::Path) -> bool {
    path.as_os_str().is_empty()
}

/// One resumption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resumption {
    /// When, in UTC.
    pub at: String,
    /// Program and version.
    pub program: String,
    /// The machine.
    pub host: Host,
    /// Worker threads.
    pub threads: usize,
    /// Where it was computed.
    pub device: String,
}

/// The machine that an experiment ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Operating system.
    pub system: String,
    /// Processor family.
    pub architecture: String,
    /// The widest vector instructions that the program uses on it.
    #[serde(default)]
    pub instructions: String,
    /// How many threads it runs at once.
    pub cores: usize,
}

impl Manifest {
    /// The manifest of an experiment that begins now; reads the model's files for their digests.
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
            host: Host::here(),
            threads,
            directory: PathBuf::new(),
            device: device::name(base.device()),
            started: now(),
            finished: None,
            resumed: Vec::new(),
        })
    }

    /// Notes that `now` goes on with this experiment, and tells in what it differs from the last
    /// process that worked on it: the same bits are promised for the same binary, instruction set
    /// and number of threads alone.
    pub fn resume(&mut self, now: &Self) -> Option<String> {
        let (program, host, threads, device) = match self.resumed.last() {
            None => (&self.program, &self.host, self.threads, &self.device),
            Some(last) => (&last.program, &last.host, last.threads, &last.device),
        };
        let pairs = [
            ("program", program.clone(), now.program.clone()),
            ("processor", host.processor(), now.host.processor()),
            ("threads", threads.to_string(), now.threads.to_string()),
            ("device", device.clone(), now.device.clone()),
        ];
        let changed = pairs.iter().filter(|(_, then, here)| then != here);
        let changed: Vec<_> =
            changed.map(|(what, then, here)| format!("{what} {then} then, {here} now")).collect();
        self.resumed.push(Resumption {
            at: self::now(),
            program: now.program.clone(),
            host: now.host.clone(),
            threads: now.threads,
            device: now.device.clone(),
        });
        (!changed.is_empty()).then(|| {
            format!(
                "goes on under other conditions, last digits may differ: {}",
                changed.join("; ")
            )
        })
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

/// How many threads this machine runs at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The present moment as `2026-01-31T12:00:00Z`.
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
