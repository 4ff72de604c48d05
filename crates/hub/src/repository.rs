//! One model or data set at one commit.

use std::cell::OnceCell;
use std::path::PathBuf;

use serde_json::Value;

use crate::cache::Folder;
use crate::download::download;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::hub::Hub;
use crate::name::{is_commit, is_inside, quoted};
use crate::reference::{Kind, Reference};

/// The maximum size of a file list in bytes.
const LISTING_LIMIT: u64 = 256 << 20;

type Progress<'a> = &'a dyn Fn(&str, u64, u64);

/// A model or a data set at one commit; created by [`Hub::repository`].
pub struct Repository<'a> {
    hub: &'a Hub,
    kind: Kind,
    reference: Reference,
    folder: Folder,
    commit: String,
    listed: OnceCell<Vec<String>>,
    progress: Option<Progress<'a>>,
}

impl<'a> Repository<'a> {
    pub(crate) fn open(hub: &'a Hub, kind: Kind, reference: &Reference) -> Result<Self> {
        let mut repository = Self {
            hub,
            kind,
            reference: reference.clone(),
            folder: Folder::new(&hub.settings().cache, kind, reference),
            commit: reference.revision().to_owned(),
            listed: OnceCell::new(),
            progress: None,
        };
        if is_commit(reference.revision()) {
            return Ok(repository);
        }
        let cached = repository.folder.commit(reference.revision());
        repository.commit = if hub.settings().offline.is_some() {
            let revision = || format!("revision {}", reference.revision());
            cached.ok_or_else(|| repository.not_cached(revision()))?
        } else {
            let (commit, files) = repository.ask().map_err(|error| match error {
                Error::NoConnection { host, reason, .. } => {
                    Error::NoConnection { host, reason, cached: cached.is_some() }
                }
                other => other,
            })?;
            repository.listed = files.into();
            commit
        };
        Ok(repository)
    }

    /// Calls `progress` with the file, the bytes downloaded and the bytes in all.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a dyn Fn(&str, u64, u64)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The commit of all files, 40 digits.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The reference as requested.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The commit's directory in the cache, which holds the downloaded files.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.folder.snapshot(&self.commit)
    }

    /// The names of all files, sorted; offline, of the cached files.
    ///
    /// # Errors
    /// When the list cannot be fetched, or a name in it leads out of the cache.
    pub fn files(&self) -> Result<Vec<String>> {
        if self.hub.settings().offline.is_none() {
            return self.listing().map(<[String]>::to_vec);
        }
        let found = self.folder.list(&self.commit)?;
        found.ok_or_else(|| self.not_cached(format!("commit {}", self.commit)))
    }

    /// The path of a file in the cache; downloads it if needed.
    ///
    /// # Errors
    /// When the file does not exist, cannot be downloaded or written, or, offline, is not in the cache.
    pub fn get(&self, file: &str) -> Result<PathBuf> {
        let file = self.inside(file)?;
        let path = self.folder.file(&self.commit, file);
        if !path.is_file() {
            if self.hub.settings().offline.is_some() {
                return Err(self.not_cached(format!("`{file}`")));
            }
            if self.listed.get().is_some_and(|files| !files.iter().any(|known| known == file)) {
                return Err(self.no_file(file));
            }
            download(self, file).map_err(|error| match error {
                Error::NoFile { .. } => self.no_file(file),
                other => other,
            })?;
        }
        if !self.folder.contains(&path) {
            return Err(Error::LeadsAway { id: self.id(), path });
        }
        self.folder.remember(self.reference.revision(), &self.commit);
        Ok(path)
    }

    /// Whether the commit has a file; offline, whether the cache has it.
    pub(crate) fn has(&self, file: &str) -> Result<bool> {
        let file = self.inside(file)?;
        if self.folder.file(&self.commit, file).is_file() {
            return Ok(true);
        }
        if self.hub.settings().offline.is_some() || self.folder.is_absent(&self.commit, file) {
            return Ok(false);
        }
        let found = self.listing()?.iter().any(|known| known == file);
        if !found {
            self.folder.mark_absent(&self.commit, file);
        }
        Ok(found)
    }

    pub(crate) fn listing(&self) -> Result<&[String]> {
        match self.listed.get() {
            Some(files) => Ok(files),
            None => {
                let (_, files) = self.ask()?;
                Ok(self.listed.get_or_init(|| files))
            }
        }
    }

    /// Requests the commit of the revision, and its files.
    fn ask(&self) -> Result<(String, Vec<String>)> {
        let url = format!(
            "{}/api/{}/{}/revision/{}",
            self.hub.settings().endpoint,
            self.kind.plural(),
            self.reference.id(),
            quoted(self.reference.revision(), "")
        );
        self.hub.retries().with(|| {
            let mut response = self.hub.client().send("GET", &url, 0, |_| false)?;
            if !response.is_success() {
                return Err(self.status_fault(&response, None));
            }
            let found = response.body.with_config().limit(LISTING_LIMIT).read_json::<Value>();
            let found = found.map_err(|error| match error {
                ureq::Error::Json(error) if !error.is_io() => Fault::Final(
                    response.unexpected(format!("the list of files is not JSON: {error}")),
                ),
                error => Fault::unanswered(&response.host, &error, true),
            })?;
            let commit = found["sha"].as_str().filter(|commit| is_commit(commit));
            let (Some(commit), Some(siblings)) = (commit, found["siblings"].as_array()) else {
                return Err(response
                    .unexpected("the list of files names no commit or no files")
                    .into());
            };
            let names = siblings.iter().filter_map(|file| file["rfilename"].as_str());
            let mut files = names.map(|name| self.inside(name).map(str::to_owned));
            let mut files = files.by_ref().collect::<Result<Vec<_>>>()?;
            files.sort();
            Ok((commit.to_owned(), files))
        })
    }

    fn not_cached(&self, what: String) -> Error {
        Error::NotCached {
            id: self.id(),
            what,
            cache: self.hub.settings().cache.clone(),
            // Only called when it is set.
            offline: self.hub.settings().offline.unwrap_or(crate::settings::Offline::Flag),
        }
    }

    fn inside<'n>(&self, name: &'n str) -> Result<&'n str> {
        if is_inside(name) {
            return Ok(name);
        }
        Err(Error::UnsafeName { id: self.id(), name: name.to_owned() })
    }

    /// Owner and name, and the revision unless it is `main`; for messages.
    pub(crate) fn id(&self) -> String {
        self.reference.to_string()
    }

    /// The address of its page, below which its files are.
    pub(crate) fn page(&self) -> String {
        format!("{}/{}", self.hub.settings().endpoint, self.kind.page(self.reference.id()))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn hub(&self) -> &Hub {
        self.hub
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn report(&self, file: &str, done: u64, total: u64) {
        if let Some(progress) = self.progress {
            progress(file, done, total);
        }
    }
}
