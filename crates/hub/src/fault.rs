//! Whether a failed request should be retried.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::{Error as Transport, Timeout};

use crate::error::Error;

/// A failure, and whether a retry may help.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A retry would not help.
    Final(Error),
    /// Retry; the server may have asked for a delay.
    Again(Error, Option<Duration>),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Fault {
    /// A request without a response.
    ///
    /// `reached` says that a host responded before. If none did, a missing route or name is not
    /// retried, so that users without a network do not wait for the error.
    pub(crate) fn unanswered(host: &str, error: &Transport, reached: bool) -> Self {
        let failure =
            Error::NoConnection { host: host.to_owned(), reason: reason(error), cached: false };
        let again = match error {
            Transport::HostNotFound
            | Transport::ConnectionFailed
            | Transport::Timeout(Timeout::Resolve | Timeout::Connect) => reached,
            // Certificate and handshake errors are wrapped as invalid data.
            Transport::Io(io) if io.kind() == ErrorKind::InvalidData => false,
            Transport::Io(io) => reached || !unreachable(io.kind()),
            Transport::Timeout(_) | Transport::Protocol(_) | Transport::BodyStalled => true,
            _ => false,
        };
        if again { Self::Again(failure, None) } else { Self::Final(failure) }
    }
}

fn unreachable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::AddrNotAvailable
    )
}

fn reason(error: &Transport) -> String {
    let reason = match error {
        Transport::Io(io) => io.to_string(),
        Transport::Timeout(_) => "timeout".to_owned(),
        // The address of a redirect may contain a signature.
        Transport::BadUri(_) | Transport::RequireHttpsOnly(_) => "invalid address".to_owned(),
        other => other.to_string(),
    };
    if reason.contains("certificate") {
        return format!(
            "{reason} (behind an intercepting proxy, set SSL_CERT_FILE to its certificate)"
        );
    }
    reason
}
