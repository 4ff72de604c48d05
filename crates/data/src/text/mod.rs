//! Text and tokens: templates, tokenizers of model directories, and the [`Codec`] that joins them.
//!
//! | template | a sample becomes | labelled tokens |
//! |---|---|---|
//! | `world` | `<bos> prompt <bot> answer <eos>` | `answer <eos>` |
//! | `alpaca` | the published instruction template, the answer, the end text | answer and end |
//! | `chat` | the output of the model's chat template | everything after the formatted prompt |
//! | `plain` | prompt, answer and end text, nothing in between | answer and end |
//!
//! Tokens are those of the reference protocol. The tokenizer's post-processor adds its tokens at the
//! start, the end is appended as text, the length of the prompt is found by tokenising it alone, and
//! samples are truncated on the right. Tokens that a tokenizer puts *after* a text are left out: the
//! reference would end each prompt with them.
//!
//! A tokenizer needs no padding token. The reference adds `[PAD]` and a row of the embedding. Here
//! batches are padded with 0 on the right and masked, which changes no logit of a real position and
//! does not change the vocabulary.

mod adapter;
mod alpaca;
mod bpe;
mod charge;
mod chat;
mod codec;
mod encode;
mod error;
mod files;
mod further;
mod generation;
mod jinja;
mod llama;
mod marks;
mod methods;
mod python;
mod specials;
mod strict;
mod template;
mod tokenize;

pub use adapter::other_tokenizer;
pub use codec::Codec;
pub use encode::Encoded;
pub use error::TextError;
pub use generation::Generation;
pub use strict::SPECIAL_TOKENS;
pub use template::TemplateChoice;
