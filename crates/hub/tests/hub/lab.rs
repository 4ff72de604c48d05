//! A test server, an empty cache, and short waits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vxf_hub::{Error, Hub, Kind, Offline, Reference, Result, RetryPolicy, Settings, Token};

use crate::server::{Seen, Server, Stored};

pub(crate) const MODEL: &str = "owner/model";
pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";
pub(crate) const SECRET: &str = "hf_secret0123456789";

pub(crate) struct Lab {
    pub(crate) server: Server,
    cache: tempfile::TempDir,
}

/// Bytes that vary with the position.
pub(crate) fn weights(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 256 * 7) as u8).collect()
}

/// A model with files of the given names; large ones have 300 000 bytes.
pub(crate) fn model(files: &[&str]) -> Stored {
    let content = |name: &str| match name {
        name if crate::server::is_large(name) => weights(300_000 + name.len()),
        name => format!("{{\"name\": {name:?}}}\n").into_bytes(),
    };
    Stored {
        kind: "models",
        id: MODEL,
        commit: COMMIT.to_owned(),
        revisions: vec!["main", "v1.0", "refs/pr/1"],
        files: files.iter().map(|name| ((*name).to_owned(), content(name))).collect(),
        gate: None,
    }
}

impl Lab {
    pub(crate) fn new(stored: Vec<Stored>) -> Self {
        Self { server: Server::start(stored), cache: tempfile::tempdir().expect("a directory") }
    }

    /// A lab with one model.
    pub(crate) fn with(files: &[&str]) -> Self {
        Self::new(vec![model(files)])
    }

    pub(crate) fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// The model's folder in the cache.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache().join("models--owner--model")
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.cache());
        settings.endpoint.clone_from(&self.server.hub);
        settings.silence = Duration::from_secs(5);
        settings.retry = RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(5),
            longest: Duration::from_secs(2),
            total: Duration::from_secs(4),
            renewed_by: u64::MAX / 2,
        };
        settings
    }

    pub(crate) fn hub(&self) -> Hub {
        Hub::new(self.settings()).expect("settings")
    }

    pub(crate) fn hub_with_token(&self, token: &str) -> Hub {
        let token = Token::new("HF_TOKEN", token).expect("a token");
        Hub::new(Settings { token, ..self.settings() }).expect("settings")
    }

    pub(crate) fn offline(&self) -> Hub {
        let offline = Some(Offline::Flag);
        Hub::new(Settings { offline, ..self.settings() }).expect("settings")
    }

    /// Lines of all requests since the last call.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.server.seen().into_iter().map(|seen| seen.line).collect()
    }

    /// Requests whose bodies the storage has sent since the last call.
    pub(crate) fn sent(&self) -> Vec<Seen> {
        let mut seen = self.server.seen();
        seen.retain(|seen| seen.storage && seen.line.starts_with("GET"));
        seen
    }
}

pub(crate) fn reference(text: &str) -> Reference {
    Reference::parse(&format!("hf:{text}")).expect("a reference").expect("a prefix")
}

/// Downloads one file of a model.
pub(crate) fn get(hub: &Hub, text: &str, file: &str) -> Result<PathBuf> {
    hub.repository(Kind::Model, &reference(text))?.get(file)
}

/// Downloads a model.
pub(crate) fn get_model(hub: &Hub, text: &str) -> Result<PathBuf> {
    hub.repository(Kind::Model, &reference(text))?.model_files()
}

/// Checks that an error contains all of `parts` and no secret.
#[track_caller]
pub(crate) fn says<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) -> Error {
    let error = result.expect_err("an error");
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(!text.contains(SECRET) && !debug.contains(SECRET), "{debug}");
    assert!(!text.contains("signature") && !debug.contains("signature"), "{debug}");
    error
}
