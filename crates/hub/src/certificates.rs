//! TLS root certificates.

use std::path::Path;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Result};

/// Mozilla's root certificates, or those of `file` instead.
pub(crate) fn trust(file: Option<&Path>) -> Result<TlsConfig> {
    let Some(file) = file else { return Ok(TlsConfig::builder().build()) };
    let wrong = |problem: &str| Error::Setting {
        name: "SSL_CERT_FILE",
        problem: format!(
            "is {}, {problem}; set it to a file of PEM certificates, or unset it",
            file.display()
        ),
    };
    let text = std::fs::read(file).map_err(|error| wrong(&format!("unreadable: {error}")))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(wrong("which contains no certificate"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::from(certificates)).build())
}
