//! `encr-milter access …`: sendmail's access map, to a policy and back.

mod export;
mod import;
mod lint;

use super::{complain, exit};
use crate::diagnostics::{FileId, Sources};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// From sendmail's access map to a policy, what is wrong with it, and back
///
/// Only the lines tagged TLS_Clt, TLS_Srv and TLS_Rcpt are looked at; all others are left alone.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Import(import::Arguments),
    Lint(lint::Arguments),
    Export(export::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    match &arguments.command {
        Command::Import(arguments) => import::run(arguments),
        Command::Lint(arguments) => lint::run(arguments),
        Command::Export(arguments) => export::run(arguments),
    }
}

/// A map's text, to be shown in diagnostics.
struct Map {
    sources: Sources,
    file: FileId,
    text: Arc<str>,
}

/// Reads the text of an access map; `-` is standard input. Bytes that are no UTF-8 (old files have comments in
/// Latin-1) are taken as they come: no TLS rule needs them. What cannot be read is told, and is the exit code.
fn read(path: &Path) -> Result<Map, u8> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| {
        complain(&format!("cannot read {}: {error}", path.display()));
        exit::NO_INPUT
    })?;
    if bytes.contains(&0) {
        complain(&format!(
            "{} is no text: give the file that the map is made from, not the map (access, not access.db)",
            path.display()
        ));
        return Err(exit::DATA);
    }
    let text: Arc<str> = String::from_utf8_lossy(&bytes).into();
    let shown = if path == Path::new("-") { Path::new("<stdin>") } else { path };
    let mut sources = Sources::default();
    let file = sources.add(shown.to_path_buf(), Arc::clone(&text));
    Ok(Map { sources, file, text })
}
