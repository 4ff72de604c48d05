//! Requests to the hub, and where its redirects lead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::{HeaderMap, Request, Uri, header};
use ureq::{Agent, Body, Proxy};

use crate::certificates::trust;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::settings::Settings;
use crate::token::Token;

const REDIRECTS: usize = 10;

/// A connection pool that knows which host may see the token.
pub(crate) struct Client {
    agent: Agent,
    origin: Uri,
    token: Option<Token>,
    reached: AtomicBool,
}

/// The answer at the end of the redirects.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its host, for messages.
    pub(crate) host: String,
    /// Whether it is the endpoint that answers.
    pub(crate) own: bool,
    /// Any, also 4xx and 5xx.
    pub(crate) status: u16,
    /// All of them.
    pub(crate) headers: HeaderMap,
    /// Not read yet.
    pub(crate) body: Body,
}

impl Answer {
    /// A header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// How long the server asks to stay away: `Retry-After`, or the `t=` of `RateLimit`.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let reset = || {
            let limit = self.header("ratelimit")?;
            limit.split([';', ',']).find_map(|part| part.trim().strip_prefix("t="))?.parse().ok()
        };
        self.number("retry-after").or_else(reset).map(Duration::from_secs)
    }

    /// Whether the request did what it should.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// An error saying that no hub answers so.
    pub(crate) fn strange(&self, problem: impl Into<String>) -> Error {
        Error::Answer { host: self.host.clone(), problem: problem.into() }
    }
}

impl Client {
    /// A client for the endpoint of `settings`.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        // Without a network nobody needs to be trusted, and a stale variable does no harm.
        let certificates = settings.certificates.as_deref().filter(|_| settings.offline.is_none());
        let config = Agent::config_builder()
            .tls_config(trust(certificates)?)
            // Redirects are followed below, where it is known who may see the token.
            .max_redirects(0)
            .http_status_as_error(false)
            // A length, a range and an entity tag mean the file itself only if nothing is packed.
            .accept_encoding("identity")
            .user_agent(concat!("vxf/", env!("CARGO_PKG_VERSION")))
            .proxy(if settings.system_proxy { Proxy::try_from_env() } else { None })
            .timeout_connect(Some(settings.silence))
            .timeout_recv_response(Some(settings.silence))
            .timeout_per_read(Some(settings.silence))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            origin: settings.origin()?,
            token: settings.token.clone(),
            reached: AtomicBool::new(false),
        })
    }

    /// Whether requests to the endpoint carry a token.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A server's explanation, fit to be shown: short, and without the token.
    pub(crate) fn message(&self, answer: &Answer) -> String {
        let message = answer.header("x-error-message").unwrap_or_default();
        if self.token.as_ref().is_some_and(|token| token.is_in(message)) {
            return String::new();
        }
        message.chars().take(200).collect()
    }

    /// Host of the endpoint.
    pub(crate) fn host(&self) -> String {
        host(&self.origin)
    }

    /// Asks for `url`, from byte `start` on, and follows redirects until `enough` is content.
    pub(crate) fn send(
        &self,
        method: &'static str,
        url: &str,
        start: u64,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Fault> {
        let strange = |problem: &str| Error::Answer { host: self.host(), problem: problem.into() };
        let mut uri: Uri = url.parse().map_err(|_| strange("an address cannot be formed"))?;
        for _ in 0..=REDIRECTS {
            let own = same_origin(&uri, &self.origin);
            let mut request = Request::builder().method(method).uri(&uri);
            if start > 0 {
                request = request.header(header::RANGE, format!("bytes={start}-"));
            }
            if let (true, Some(token)) = (own, &self.token) {
                request = request.header(header::AUTHORIZATION, token.header());
            }
            let request = request.body(()).map_err(|_| strange("a request cannot be formed"))?;
            let reached = self.reached.load(Ordering::Relaxed);
            let response = self
                .agent
                .run(request)
                .map_err(|error| Fault::unanswered(&host(&uri), &error, reached))?;
            self.reached.store(true, Ordering::Relaxed);
            let (parts, body) = response.into_parts();
            let answer = Answer {
                host: host(&uri),
                own,
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            };
            let target = match answer.header("location") {
                Some(location) if (300..400).contains(&answer.status) && !enough(&answer) => {
                    joined(&uri, location)
                        .ok_or_else(|| answer.strange("it redirects to no address"))?
                }
                _ => return Ok(answer),
            };
            uri = target;
        }
        Err(strange("it redirects in circles").into())
    }
}

/// Host and port as they stand in the address, without what could be a secret.
fn host(uri: &Uri) -> String {
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Whether both addresses are one server under one protocol.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| {
        uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        })
    };
    let lower = |uri: &Uri| uri.host().unwrap_or_default().to_lowercase();
    a.scheme_str() == b.scheme_str() && lower(a) == lower(b) && port(a) == port(b)
}

/// The address that a `Location` means; the hub sends whole ones and ones that begin with `/`.
fn joined(base: &Uri, location: &str) -> Option<Uri> {
    let whole = match location {
        _ if location.starts_with("//") => format!("{}:{location}", base.scheme_str()?),
        _ if location.starts_with('/') => {
            format!("{}://{}{location}", base.scheme_str()?, base.authority()?)
        }
        _ => location.to_owned(),
    };
    whole.parse().ok().filter(|uri: &Uri| {
        // Never from https back to http.
        let secure = uri.scheme_str() == Some("https");
        let open = uri.scheme_str() == Some("http") && base.scheme_str() == Some("http");
        (secure || open) && uri.host().is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("an address")
    }

    #[test]
    fn only_the_endpoint_sees_the_token() {
        let hub = uri("https://huggingface.co");
        assert!(same_origin(&hub, &uri("https://HuggingFace.co:443/x?y=z")));
        for other in [
            "http://huggingface.co",
            "https://huggingface.co:444",
            "https://cdn.huggingface.co",
            "https://huggingface.co.evil.org",
        ] {
            assert!(!same_origin(&hub, &uri(other)), "{other}");
        }
    }

    #[test]
    fn redirects_are_joined() {
        let base = uri("https://hub.org:8/a/b?c");
        let to = |location| joined(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("/x?y=%2F").as_deref(), Some("https://hub.org:8/x?y=%2F"));
        assert_eq!(to("https://cdn.org/x").as_deref(), Some("https://cdn.org/x"));
        assert_eq!(to("//cdn.org/x").as_deref(), Some("https://cdn.org/x"));
        for bad in ["http://cdn.org/x", "file:///etc/passwd", "x", "", "ftp://a/b"] {
            assert_eq!(to(bad), None, "{bad}");
        }
    }
}
