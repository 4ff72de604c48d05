//! `vxf completions SHELL` and `vxf man [DIR]`, generated from the definitions of the commands.

use std::fs;
use std::path::PathBuf;

use clap::{Args as Group, CommandFactory};

use crate::args::Args;
use crate::error::CommandError;
use crate::output::print;

#[derive(Debug, Group)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Where each shell looks for completions.
const COMPLETIONS: &str = "\
For example:
  vxf completions bash > ~/.local/share/bash-completion/completions/vxf
  vxf completions zsh > ~/.zfunc/_vxf        (with `fpath+=~/.zfunc` in ~/.zshrc)
  vxf completions fish > ~/.config/fish/completions/vxf.fish";

#[derive(Debug, Group)]
pub(crate) struct ManArgs {
    /// Write vxf.1 and a page for each command into this directory, such as ~/.local/share/man/man1;
    /// it is created if it is missing, and existing pages are replaced.
    pub(crate) directory: Option<PathBuf>,
}

/// The name of the program in completions, whatever a program of plugins is called.
const NAME: &str = "vxf";

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(crate) fn man(args: &ManArgs) -> Result<(), CommandError> {
    match &args.directory {
        Some(directory) => {
            let fail = |error| {
                let message =
                    format!("cannot write manual pages to {}: {error}", directory.display());
                CommandError::failed(message).hint("name a directory that you can write")
            };
            fs::create_dir_all(directory).map_err(fail)?;
            clap_mangen::generate_to(Args::command(), directory).map_err(fail)?;
            print(&format!("manual pages in {}\n", directory.display()))
        }
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Args::command()).render(&mut page);
            rendered.map_err(|error| CommandError::failed(error.to_string()))?;
            print(&String::from_utf8_lossy(&page))
        }
    }
}
