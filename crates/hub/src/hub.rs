//! The hub: settings, a client and a cache.

use std::fmt;

use crate::client::Client;
use crate::error::Result;
use crate::reference::{Kind, Reference};
use crate::repository::Repository;
use crate::retry::RetryState;
use crate::settings::Settings;

/// The Hugging Face hub, or a mirror of it, with a cache on disk.
///
/// One hub serves many threads; each creates its own [`Repository`].
pub struct Hub {
    settings: Settings,
    client: Client,
}

impl Hub {
    /// A hub configured by the environment; `offline` is the program's flag.
    ///
    /// # Errors
    /// When a variable is invalid; see [`Settings::from_lookup`].
    pub fn from_env(offline: bool) -> Result<Self> {
        Self::new(Settings::from_lookup(offline, |name| std::env::var_os(name))?)
    }

    /// A hub with these settings.
    ///
    /// # Errors
    /// When the endpoint is not a valid address.
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { client: Client::new(&settings)?, settings })
    }

    /// A repository at the current commit of its revision.
    ///
    /// A branch or a tag takes one request. A commit takes none, and neither does anything when
    /// offline.
    ///
    /// # Errors
    /// When the repository or revision does not exist or is not readable, or, offline, is not in the
    /// cache.
    pub fn repository(&self, kind: Kind, reference: &Reference) -> Result<Repository<'_>> {
        Repository::open(self, kind, reference)
    }

    /// The settings of this hub.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn retries(&self) -> RetryState {
        RetryState::new(self.settings.retry)
    }
}

impl fmt::Debug for Hub {
    /// Prints the settings only; the client may contain the password of a proxy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("settings", &self.settings).finish_non_exhaustive()
    }
}
