//! Finds models and data: on this machine by path, or on the hub by id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;
use vxf_data::{LocalRepository, Locate, Repository, Source};
use vxf_hf::gguf;
use vxf_hub::{Hub, Kind, Reference};

use vxf_recipe::instead::{holds, instead};
use vxf_recipe::settings::{EMBEDDED, RUNS};

use crate::{Error, Result, permissions};

type Progress = Box<dyn Fn(&str, u64, u64) + Send + Sync>;
type Notes = Box<dyn Fn(&str) + Send + Sync>;

/// Opens models and data named by path or hub id.
///
/// The network is used only for hub ids, and never if `offline` is set.
pub struct Access {
    hub: Hub,
    progress: Option<Progress>,
    notes: Option<Notes>,
    commits: Mutex<BTreeMap<String, String>>,
    warnings: Mutex<Vec<String>>,
    /// Directories made of GGUF files.
    unpacked: Mutex<BTreeMap<PathBuf, TempDir>>,
}

impl Access {
    /// Access with the hub settings of the environment; `offline` forbids the network.
    ///
    /// # Errors
    /// When an environment variable has an invalid value.
    pub fn new(offline: bool) -> Result<Self> {
        let hub = Hub::from_env(offline)?;
        let (commits, warnings, unpacked) = Default::default();
        Ok(Self { hub, progress: None, notes: None, commits, warnings, unpacked })
    }

    /// Sets the callback for downloads: file, bytes done, bytes in total.
    pub fn with_progress(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Sets the callback for notes and warnings.
    pub fn with_notes(self, notes: Notes) -> Self {
        Self { notes: Some(notes), ..self }
    }

    /// A remark for the user that is no warning.
    pub fn note(&self, text: &str) {
        if let Some(notes) = &self.notes {
            notes(text);
        }
    }

    /// The directory of the model `name`.
    ///
    /// # Errors
    /// When the directory does not exist, or the hub does not provide it.
    pub fn model(&self, name: &str) -> Result<PathBuf> {
        match reference(name)? {
            None => match Path::new(name) {
                path if gguf::is_gguf(path) && path.is_file() => self.unpacked(path),
                path if path.is_dir() => {
                    self.examine(path);
                    match gguf::alone(path) {
                        Some(file) => self.unpacked(&file),
                        None => Ok(path.to_owned()),
                    }
                }
                path => Err(Error::NoModel { path: path.to_owned(), instead: instead(path) }),
            },
            Some(reference) => Ok(self.repository(Kind::Model, &reference)?.model_files()?),
        }
    }

    /// A directory with the files that the GGUF file `file` implies. It lives as long as this.
    fn unpacked(&self, file: &Path) -> Result<PathBuf> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(place) = unpacked.get(file) {
            return Ok(place.path().to_owned());
        }
        let place = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
        gguf::unpack(file, place.path())?;
        let path = place.path().to_owned();
        unpacked.insert(file.to_owned(), place);
        Ok(path)
    }

    /// Warns once about each file in `directory` that other users could have changed.
    pub fn examine(&self, directory: &Path) {
        let adapter = directory.join("adapter");
        let places = [directory, &adapter].into_iter().filter(|place| place.is_dir());
        places.flat_map(permissions::remarks).for_each(|remark| self.warn(&remark));
    }

    /// Warns about a file, once.
    pub fn warn(&self, text: &str) {
        let mut known = self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !known.iter().any(|warning| warning == text) {
            self.note(&format!("warning: {text}"));
            known.push(text.to_owned());
        }
    }

    /// All warnings about the files of models: unknown keys, unused tensors, and directories that other
    /// users could have changed.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// As [`Access::model`], with the error type of plugins.
    pub fn model_for_plugin(&self, name: &str) -> vxf_core::Result<PathBuf> {
        self.model(name).map_err(|error| match error {
            Error::Core(error) => error,
            other => {
                // Of a connection that fails, the message names the server alone.
                let text = other.to_string();
                let text = if text.contains(name) { text } else { format!("{name}: {text}") };
                let source = text.into();
                vxf_core::Error::Plugin { plugin: "model", source }
            }
        })
    }

    fn repository(&self, kind: Kind, reference: &Reference) -> Result<vxf_hub::Repository<'_>> {
        let repository = self.hub.repository(kind, reference)?;
        let mut commits = self.commits.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        commits.insert(reference.id().to_owned(), repository.commit().to_owned());
        Ok(match &self.progress {
            Some(progress) => repository.with_progress(&**progress),
            None => repository,
        })
    }

    /// The commit of everything downloaded from the hub, by id.
    pub fn commits(&self) -> BTreeMap<String, String> {
        self.commits.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Locate for Access {
    fn dataset(&self, source: &Source) -> vxf_data::Result<Box<dyn Repository + '_>> {
        let name = match source.revision.as_str() {
            "" => source.path.clone(),
            revision => format!("{}@{revision}", source.path),
        };
        let found = reference(&name).map_err(|error| match error {
            Error::Hub(error) => elsewhere(error),
            other => vxf_data::Error::Repository(Box::new(other)),
        })?;
        match found {
            None => match LocalRepository::open(Path::new(&source.path)) {
                Ok(repository) => Ok(Box::new(repository)),
                Err(vxf_data::Error::NoFile { path, .. }) => {
                    let instead = instead(&path);
                    Err(vxf_data::Error::NoFile { path, instead })
                }
                Err(error) => Err(error),
            },
            Some(reference) => {
                let found = self.repository(Kind::Dataset, &reference);
                Ok(Box::new(OnHub(found.map_err(|error| match error {
                    Error::Hub(error) => elsewhere(error),
                    other => vxf_data::Error::Repository(Box::new(other)),
                })?)))
            }
        }
    }
}

/// The hub repository that `name` refers to, or `None` if it is a local path.
fn reference(name: &str) -> Result<Option<Reference>> {
    // The default output directory is never on the hub: the run was deleted, or is in another directory.
    match Path::new(name).starts_with(RUNS) {
        true => Ok(None),
        false => Ok(Reference::parse(name)?),
    }
}

/// Checks that `target` can be a model; for commands that accept a run or a model and found no run.
///
/// # Errors
/// When it is a local path without a model directory; the error says what was found there.
pub fn check_target(target: &str) -> Result<()> {
    if target == EMBEDDED || reference(target)?.is_some() {
        return Ok(());
    }
    let path = Path::new(target);
    let has = |name: &str| path.join(name).is_file();
    if gguf::is_gguf(path) && path.is_file() {
        return Ok(());
    }
    let model = has("config.json") || has("adapter_config.json") || gguf::alone(path).is_some();
    let problem = match (path.is_dir(), model) {
        (true, true) => return Ok(()),
        (true, false) => format!("neither a run nor a model directory; {}", holds(path)),
        (false, _) if path.exists() => "a file, and neither a run nor a model directory".to_owned(),
        (false, _) => format!("no such run or model{}", instead(path)),
    };
    Err(Error::NoTarget { path: path.to_owned(), problem })
}

/// A data set on the hub.
struct OnHub<'a>(vxf_hub::Repository<'a>);

impl Repository for OnHub<'_> {
    fn files(&self) -> vxf_data::Result<Vec<String>> {
        self.0.files().map_err(elsewhere)
    }

    fn get(&self, file: &str) -> vxf_data::Result<PathBuf> {
        self.0.get(file).map_err(elsewhere)
    }
}

fn elsewhere(error: vxf_hub::Error) -> vxf_data::Error {
    vxf_data::Error::Repository(Box::new(error))
}
