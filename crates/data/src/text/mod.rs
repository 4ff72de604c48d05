//! Between text and tokens: sequence templates, tokenizers of model directories, and the [`Codec`]
//! that joins the two.
//!
//! | template | a sample becomes | what is learned |
//! |---|---|---|
//! | `world` | `<bos> prompt <bot> answer <eos>` | `answer <eos>` |
//! | `alpaca` | the published instruction template, the answer, the end text | answer and end |
//! | `chat` | what the model's own chat template writes | what it writes after asking |
//! | `plain` | prompt, answer and end text, nothing in between | answer and end |
//!
//! Tokens are those of the reference protocol: tokens at the start are the tokenizer's own (its
//! post-processor's), the end is appended as text, the prompt is tokenised alone to learn how long
//! it is, and samples are cut at the right. Where a tokenizer also puts tokens *after* a text, they
//! are left out: the reference would have ended each prompt with them.
//!
//! A tokenizer without a padding token needs none here. The reference adds `[PAD]` and grows the
//! embedding by a row; batches of ours are padded with 0 on the right and masked, which changes no
//! logit of a real position and leaves the vocabulary as it was.

mod alpaca;
mod bpe;
mod charge;
mod chat;
mod codec;
mod encode;
mod error;
mod files;
mod jinja;
mod python;
mod specials;
mod strict;
mod template;
mod tokenize;

pub use codec::Codec;
pub use encode::Encoded;
pub use error::TextError;
pub use strict::SPECIAL_TOKENS;
pub use template::TemplateChoice;
