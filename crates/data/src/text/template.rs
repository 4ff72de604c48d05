//! The choice of a template.

use serde::{Deserialize, Serialize};

/// The template around samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateChoice {
    /// `world` for the world's tokenizer, `chat` if the model has a chat template, else `alpaca`.
    #[default]
    Auto,
    /// The instruction template of Alpaca, which the published protocol uses for all models.
    Alpaca,
    /// The model's chat template.
    Chat,
    /// Prompt and answer, with nothing in between.
    Plain,
    /// The format of the embedded world.
    World,
}
