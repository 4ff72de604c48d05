//! Settings of the hub from the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Uri;

use crate::error::{Error, Result};
use crate::retry::RetryPolicy;
use crate::token::Token;

/// What forbids the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offline {
    /// The program's flag.
    Flag,
    /// The variable `HF_HUB_OFFLINE`.
    Variable,
}

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--offline",
            Self::Variable => "HF_HUB_OFFLINE",
        })
    }
}

/// The settings of a [`Hub`](crate::Hub).
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address of the hub, without a trailing slash.
    pub endpoint: String,
    /// The directory that holds `models--owner--name`.
    pub cache: PathBuf,
    /// Sent to the endpoint, never to another host.
    pub token: Option<Token>,
    /// What forbids the network, if anything does.
    pub offline: Option<Offline>,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// The timeout for a silent server.
    pub silence: Duration,
    /// A PEM file of root certificates in place of Mozilla's, for intercepting proxies.
    pub certificates: Option<PathBuf>,
    /// Whether `HTTPS_PROXY`, `NO_PROXY` and similar variables are used.
    pub system_proxy: bool,
}

impl Settings {
    /// The hub itself, with a cache in `cache`, no token and no proxy.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            cache: cache.into(),
            token: None,
            offline: None,
            retry: RetryPolicy::default(),
            silence: Duration::from_secs(30),
            certificates: None,
            system_proxy: false,
        }
    }

    /// Reads the settings from the environment; `offline` is the program's flag.
    ///
    /// Uses `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`,
    /// `XDG_CACHE_HOME`, `HOME` and `SSL_CERT_FILE`, as Python's `huggingface_hub` does. An empty
    /// variable counts as unset.
    ///
    /// # Errors
    /// When a variable is invalid, or there is no home directory for the cache.
    pub fn from_lookup(offline: bool, lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &'static str| match set(name).map(OsString::into_string) {
            Some(Err(_)) => Err(Error::Setting { name, problem: "is not UTF-8".to_owned() }),
            Some(Ok(value)) => Ok(Some(value)),
            None => Ok(None),
        };
        let user = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
        let path = |name| set(name).map(|value| expanded(value.into(), user.as_deref()));

        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| user.as_ref().map(|home| home.join(".cache/huggingface")));
        let needed = || Error::Setting {
            name: "HF_HOME",
            problem: "is not set, and there is no home directory; set it to a directory for \
                      downloads"
                .to_owned(),
        };
        let mut settings = Self::new(match path("HF_HUB_CACHE") {
            Some(cache) => cache,
            None => home.as_ref().ok_or_else(needed)?.join("hub"),
        });

        if let Some(endpoint) = text("HF_ENDPOINT")? {
            settings.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        settings.token = match text("HF_TOKEN")? {
            Some(token) => Token::new("HF_TOKEN", &token)?,
            None => None,
        };
        if settings.token.is_none() {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
            let token = file.and_then(|file| std::fs::read_to_string(file).ok());
            settings.token = Token::new("the token file", &token.unwrap_or_default())?;
        }
        let variable = text("HF_HUB_OFFLINE")?.unwrap_or_default().to_lowercase();
        settings.offline = if offline {
            Some(Offline::Flag)
        } else if ["1", "true", "yes", "on"].contains(&variable.trim()) {
            Some(Offline::Variable)
        } else {
            None
        };
        settings.certificates = path("SSL_CERT_FILE");
        settings.system_proxy = true;
        Ok(settings)
    }

    /// The parsed endpoint.
    pub(crate) fn origin(&self) -> Result<Uri> {
        let problem = match self.endpoint.parse::<Uri>() {
            Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => "has no http(s)://",
            // The endpoint appears in errors, so it must not contain a secret.
            Ok(uri) if uri.authority().is_some_and(|host| host.as_str().contains('@')) => {
                "contains a user name or a password; set HF_TOKEN instead"
            }
            Ok(uri) if uri.query().is_some() => "has a query",
            Ok(uri) => return Ok(uri),
            Err(_) => "is not an address",
        };
        let problem = format!("{problem}; write it like https://huggingface.co");
        Err(Error::Setting { name: "HF_ENDPOINT", problem })
    }
}

/// Expands `~/x` to a path in the home directory, for variables that no shell expanded.
fn expanded(path: PathBuf, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(rest), Some(user)) => user.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_lookup(false, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        settings(variables).expect("settings").cache.display().to_string()
    }

    #[test]
    fn the_cache_directory() {
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), "/c/huggingface/hub");
        let home = [("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/f")];
        assert_eq!(cache(&home), "/f/hub");
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/k")]), "/k");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/x")]), "/h/x/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "")]), "/h/.cache/huggingface/hub");
        assert!(settings(&[]).expect_err("no home").to_string().contains("HF_HOME is not set"));
    }

    #[test]
    fn the_source_of_the_token() -> std::io::Result<()> {
        let home = tempfile::tempdir()?;
        let at = home.path().display().to_string();
        let token = |more: &[(&str, &str)]| {
            let all = [&[("HF_HOME", at.as_str())], more].concat();
            settings(&all).expect("settings").token.map(|token| token.header())
        };
        assert_eq!(token(&[]), None);
        std::fs::write(home.path().join("token"), "hf_file\n")?;
        std::fs::write(home.path().join("other"), "hf_other")?;
        let other = home.path().join("other").display().to_string();
        assert_eq!(token(&[]).as_deref(), Some("Bearer hf_file"));
        assert_eq!(token(&[("HF_TOKEN", "")]).as_deref(), Some("Bearer hf_file"));
        assert_eq!(token(&[("HF_TOKEN_PATH", &other)]).as_deref(), Some("Bearer hf_other"));
        assert_eq!(token(&[("HF_TOKEN", " hf_variable ")]).as_deref(), Some("Bearer hf_variable"));
        Ok(())
    }

    #[test]
    fn tokens_are_hidden_in_debug_output() {
        let shown = format!("{:?}", settings(&[("HOME", "/h"), ("HF_TOKEN", "hf_secret")]));
        assert!(shown.contains("hidden") && !shown.contains("secret"), "{shown}");
        let shown = format!("{:?}", settings(&[("HOME", "/h"), ("HF_TOKEN", "hf secret")]));
        assert!(shown.contains("HF_TOKEN") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn offline_by_variable_or_flag() {
        let offline = |value| {
            let variables = [("HOME", "/h"), ("HF_HUB_OFFLINE", value)];
            settings(&variables).expect("settings").offline
        };
        for value in ["1", "true", "YES", "On"] {
            assert_eq!(offline(value), Some(Offline::Variable));
        }
        for value in ["", "0", "false", "no"] {
            assert_eq!(offline(value), None);
        }
        let home = |name: &str| (name == "HOME").then(|| "/h".into());
        let flag = Settings::from_lookup(true, home).expect("settings");
        assert_eq!(flag.offline, Some(Offline::Flag));
    }

    #[test]
    fn endpoints() {
        let origin = |value| {
            let found = settings(&[("HOME", "/h"), ("HF_ENDPOINT", value)]).expect("settings");
            found.origin().map(|_| found.endpoint)
        };
        assert_eq!(origin("").expect("the hub"), "https://huggingface.co");
        assert_eq!(origin("http://localhost:80/hf/").expect("one"), "http://localhost:80/hf");
        for value in
            ["huggingface.co", "ftp://x", "/x", "http://", "https://u:pw1@x", "https://x?pw1"]
        {
            let error = origin(value).expect_err(value).to_string();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("pw1"), "{error}");
        }
    }
}
