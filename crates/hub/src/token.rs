//! Access tokens.

use std::fmt;

use crate::error::{Error, Result};

/// An access token of the hub, hidden in debug output.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token, or `None` if the text is blank.
    ///
    /// # Errors
    /// When the text has characters that are invalid in a token; `name` is its source.
    pub fn new(name: &'static str, text: &str) -> Result<Option<Self>> {
        let text = text.trim();
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = "has characters that are invalid in a token; set it to a token from \
                           huggingface.co/settings/tokens";
            return Err(Error::Setting { name, problem: problem.to_owned() });
        }
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }

    /// The value of the `Authorization` header; used nowhere else.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a text contains the token.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        text.contains(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}
