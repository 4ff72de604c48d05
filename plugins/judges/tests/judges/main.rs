//! Judges on tiny models and files, compared with their definitions.

mod directory;
mod file;
mod guard;
mod moderation;
mod published;
