//! The hub: settings, a client and a cache.

use std::fmt;

use crate::client::Client;
use crate::error::Result;
use crate::patience::Patience;
use crate::reference::{Kind, Reference};
use crate::repository::Repository;
use crate::settings::Settings;

/// The Hugging Face hub, or a mirror of it, with a cache on disk.
///
/// One serves many threads; each makes its own [`Repository`].
pub struct Hub {
    settings: Settings,
    client: Client,
}

impl Hub {
    /// The hub that the environment describes; `offline` is the program's flag.
    ///
    /// # Errors
    /// When a variable cannot be used; see [`Settings::from_lookup`].
    pub fn from_env(offline: bool) -> Result<Self> {
        Self::new(Settings::from_lookup(offline, |name| std::env::var_os(name))?)
    }

    /// The hub that `settings` describe.
    ///
    /// # Errors
    /// When the endpoint is no address.
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { client: Client::new(&settings)?, settings })
    }

    /// A repository at the commit that its revision is at now.
    ///
    /// A branch or a tag costs one request. A commit costs none, and neither does anything when
    /// the network is forbidden.
    ///
    /// # Errors
    /// When repository or revision do not exist, are not readable, or are not in the cache of a
    /// hub that is offline.
    pub fn repository(&self, kind: Kind, reference: &Reference) -> Result<Repository<'_>> {
        Repository::open(self, kind, reference)
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.settings.retry)
    }
}

impl fmt::Debug for Hub {
    /// Shows the settings; the client may know the password of a proxy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("settings", &self.settings).finish_non_exhaustive()
    }
}
