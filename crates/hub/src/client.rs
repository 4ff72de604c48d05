//! HTTP requests to the hub, with redirects followed.

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

/// A connection pool that sends the token to the endpoint only.
pub(crate) struct Client {
    agent: Agent,
    origin: Uri,
    token: Option<Token>,
    reached: AtomicBool,
}

/// The response after all redirects.
#[derive(Debug)]
pub(crate) struct Response {
    /// Its host, for messages.
    pub(crate) host: String,
    /// Whether the response comes from the endpoint itself.
    pub(crate) own: bool,
    /// The HTTP status, including 4xx and 5xx.
    pub(crate) status: u16,
    /// All response headers.
    pub(crate) headers: HeaderMap,
    /// The unread body.
    pub(crate) body: Body,
}

impl Response {
    /// The value of a header, if it is present and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a header as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The retry delay that the server asks for: `Retry-After`, or the `t=` of `RateLimit`.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let reset = || {
            let limit = self.header("ratelimit")?;
            limit.split([';', ',']).find_map(|part| part.trim().strip_prefix("t="))?.parse().ok()
        };
        self.number("retry-after").or_else(reset).map(Duration::from_secs)
    }

    /// Whether the status is a success.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The error for an unexpected response.
    pub(crate) fn unexpected(&self, problem: impl Into<String>) -> Error {
        Error::UnexpectedResponse { host: self.host.clone(), problem: problem.into() }
    }
}

impl Client {
    /// A client for the endpoint of `settings`.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        // Offline needs no certificates, so a stale variable is not an error.
        let certificates = settings.certificates.as_deref().filter(|_| settings.offline.is_none());
        let config = Agent::config_builder()
            .tls_config(trust(certificates)?)
            // Redirects are followed below, which decides who may see the token.
            .max_redirects(0)
            .http_status_as_error(false)
            // With compression, length, range and entity tag would not describe the file itself.
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

    /// Whether requests to the endpoint send a token.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The server's error message for display: shortened, and without the token.
    pub(crate) fn message(&self, response: &Response) -> String {
        let message = response.header("x-error-message").unwrap_or_default();
        if self.token.as_ref().is_some_and(|token| token.is_in(message)) {
            return String::new();
        }
        message.chars().take(200).collect()
    }

    /// The host of the endpoint.
    pub(crate) fn host(&self) -> String {
        host(&self.origin)
    }

    /// Requests `url` from byte `start` on; follows redirects until `enough` accepts a response.
    pub(crate) fn send(
        &self,
        method: &'static str,
        url: &str,
        start: u64,
        enough: impl Fn(&Response) -> bool,
    ) -> Result<Response, Fault> {
        let unexpected = |problem: &str| Error::UnexpectedResponse {
            host: self.host(),
            problem: problem.into(),
        };
        let mut uri: Uri = url.parse().map_err(|_| unexpected("the address is invalid"))?;
        for _ in 0..=REDIRECTS {
            let own = same_origin(&uri, &self.origin);
            let mut request = Request::builder().method(method).uri(&uri);
            if start > 0 {
                request = request.header(header::RANGE, format!("bytes={start}-"));
            }
            if let (true, Some(token)) = (own, &self.token) {
                request = request.header(header::AUTHORIZATION, token.header());
            }
            let request = request.body(()).map_err(|_| unexpected("the request is invalid"))?;
            let reached = self.reached.load(Ordering::Relaxed);
            let response = self
                .agent
                .run(request)
                .map_err(|error| Fault::unanswered(&host(&uri), &error, reached))?;
            self.reached.store(true, Ordering::Relaxed);
            let (parts, body) = response.into_parts();
            let response = Response {
                host: host(&uri),
                own,
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            };
            let target = match response.header("location") {
                Some(location) if (300..400).contains(&response.status) && !enough(&response) => {
                    joined(&uri, location)
                        .ok_or_else(|| response.unexpected("a redirect has no valid address"))?
                }
                _ => return Ok(response),
            };
            uri = target;
        }
        Err(unexpected("too many redirects").into())
    }
}

/// Host and port of an address, without any part that may be secret.
fn host(uri: &Uri) -> String {
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Whether both addresses have the same scheme, host and port.
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

/// The target of a `Location` header, which may be absolute or begin with `/`.
fn joined(base: &Uri, location: &str) -> Option<Uri> {
    let whole = match location {
        _ if location.starts_with("//") => format!("{}:{location}", base.scheme_str()?),
        _ if location.starts_with('/') => {
            format!("{}://{}{location}", base.scheme_str()?, base.authority()?)
        }
        _ => location.to_owned(),
    };
    whole.parse().ok().filter(|uri: &Uri| {
        // Never downgrade from https to http.
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
