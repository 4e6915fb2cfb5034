//! `encr-milter run`: the daemon.

use super::{colour, complain, exit};
use crate::daemon_file::{self, DEFAULT_PATH};
use crate::service::{self, StartError};
use crate::telemetry::log::with_causes;
use crate::telemetry::sink::Target;
use std::io::{self, Write};
use std::path::PathBuf;

/// Run the daemon in the foreground, for systemd or another supervisor
///
/// SIGHUP loads the policy and opens the logs anew. SIGTERM stops: open transactions get to their end first.
/// Changes of the policy's files are taken by themselves.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The daemon's file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let read = daemon_file::read(&arguments.config);
    let Some(daemon) = read.daemon else {
        let _ = write!(io::stderr().lock(), "{}", read.diagnostics.render(&read.sources, colour()));
        complain("not started: the daemon's file is wrong");
        return exit::CONFIG;
    };
    let notices: Vec<String> = read.diagnostics.lines(&read.sources).map(|(_, line)| line).collect();
    let config = std::path::absolute(&arguments.config).unwrap_or_else(|_| arguments.config.clone());
    match service::run(&config, &daemon, &notices) {
        Ok(()) => exit::OK,
        Err(error) => {
            let code = match &error {
                StartError::NoPolicy(..) | StartError::Passed(_) => exit::CONFIG,
                StartError::Listen(..) => exit::UNAVAILABLE,
                StartError::Set(..) => exit::OS,
            };
            // Where the log goes to standard error, it has said so already.
            if daemon.log.output != Target::Stderr {
                complain(&format!("not started: {}", with_causes(&error)));
            }
            code
        }
    }
}
