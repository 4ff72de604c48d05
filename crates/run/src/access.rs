//! Where models and data are: on this machine by path, or on the hub by id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use vxf_data::{LocalRepository, Locate, Repository, Source};
use vxf_hub::{Hub, Kind, Reference};

use vxf_recipe::instead::{holds, instead};
use vxf_recipe::settings::EMBEDDED;

use crate::store::directory::RUNS;
use crate::{Error, Result, trust};

type Progress = Box<dyn Fn(&str, u64, u64) + Send + Sync>;
type Notes = Box<dyn Fn(&str) + Send + Sync>;

/// How models and data that are named by path or hub id are found.
///
/// The network is used for hub ids alone, and not at all when it is forbidden.
pub struct Access {
    hub: Hub,
    progress: Option<Progress>,
    notes: Option<Notes>,
    commits: Mutex<BTreeMap<String, String>>,
    warnings: Mutex<Vec<String>>,
}

impl Access {
    /// The hub as the environment describes it; `offline` forbids the network.
    ///
    /// # Errors
    /// When a variable of the environment cannot be used.
    pub fn new(offline: bool) -> Result<Self> {
        let (commits, warnings) = (Mutex::default(), Mutex::default());
        Ok(Self { hub: Hub::from_env(offline)?, progress: None, notes: None, commits, warnings })
    }

    /// With someone who is told of downloads: file, bytes that are there, bytes in all.
    pub fn with_progress(self, progress: Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// With someone who is told what is worth knowing of what is opened.
    pub fn with_notes(self, notes: Notes) -> Self {
        Self { notes: Some(notes), ..self }
    }

    pub(crate) fn note(&self, text: &str) {
        if let Some(notes) = &self.notes {
            notes(text);
        }
    }

    /// The directory of the model `name`.
    ///
    /// # Errors
    /// When there is no such directory, or the hub does not give it.
    pub fn model(&self, name: &str) -> Result<PathBuf> {
        match reference(name)? {
            None => match Path::new(name) {
                path if path.is_dir() => {
                    self.examine(path);
                    Ok(path.to_owned())
                }
                path => Err(Error::NoModel { path: path.to_owned(), instead: instead(path) }),
            },
            Some(reference) => Ok(self.repository(Kind::Model, &reference)?.model_files()?),
        }
    }

    /// Tells of what in a directory others could have changed, once.
    pub(crate) fn examine(&self, directory: &Path) {
        let adapter = directory.join("adapter");
        let places = [directory, &adapter].into_iter().filter(|place| place.is_dir());
        for remark in places.flat_map(trust::remarks) {
            let mut known = self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if !known.contains(&remark) {
                self.note(&format!("warning: {remark}"));
                known.push(remark);
            }
        }
    }

    /// What was told of directories that others could have changed.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// As [`Access::model`], with the core's error, as plugins want it.
    pub(crate) fn model_for_plugin(&self, name: &str) -> vxf_core::Result<PathBuf> {
        self.model(name).map_err(|error| match error {
            Error::Core(error) => error,
            other => vxf_core::Error::Plugin { plugin: "model", source: Box::new(other) },
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

    /// The commit of everything that came from the hub, by id.
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

/// The hub's repository that `name` means, or `None` if it means a local path.
fn reference(name: &str) -> Result<Option<Reference>> {
    // Where experiments go when nobody says where: a run that was deleted, or made in another directory.
    match Path::new(name).starts_with(RUNS) {
        true => Ok(None),
        false => Ok(Reference::parse(name)?),
    }
}

/// Checks that `target` can be a model, for commands that take a run or a model and found no run.
///
/// # Errors
/// When it is a local path and no model directory is there: says what is there instead.
pub fn check_target(target: &str) -> Result<()> {
    if target == EMBEDDED || reference(target)?.is_some() {
        return Ok(());
    }
    let path = Path::new(target);
    let has = |name: &str| path.join(name).is_file();
    let problem = match (path.is_dir(), has("config.json") || has("adapter_config.json")) {
        (true, true) => return Ok(()),
        (true, false) => format!("neither a run nor a model directory; {}", holds(path)),
        (false, _) if path.exists() => "a file, and neither a run nor a model directory".to_owned(),
        (false, _) => format!("no such run or model{}", instead(path)),
    };
    Err(Error::NoTarget { path: path.to_owned(), problem })
}

/// A data set of the hub as a source reads it.
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
