//! Which template to put around samples.

use serde::{Deserialize, Serialize};

/// The template around samples, as a user chooses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateChoice {
    /// `world` for the world's tokenizer, `chat` where the model has a chat template, else `alpaca`.
    #[default]
    Auto,
    /// The instruction template of Alpaca, which the published protocol uses for all models.
    Alpaca,
    /// The model's own chat template.
    Chat,
    /// Prompt and answer, nothing in between but what the user wrote.
    Plain,
    /// The format of the embedded world.
    World,
}
