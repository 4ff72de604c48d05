//! Judges on tiny models and files, against what they should say by the definition.

mod directory;
mod file;
mod guard;
mod moderation;
mod published;
