//! Asking the daemon that runs: where its control socket is, and what it means where nobody answers.

use super::{colour, complain, exit};
use crate::control::{AskError, ask};
use crate::daemon_file::{self, DEFAULT_PATH};
use crate::http::Method;
use crate::telemetry::log::with_causes;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Running {
    /// The daemon's file: it says where the daemon is asked
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// The daemon's control socket, in place of the one that its file says
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Tell it as one JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

impl Running {
    /// Finds the socket.
    pub(super) fn find(&self) -> Found {
        let read = daemon_file::read(&self.config);
        let wrong = read.daemon.is_none().then(|| read.diagnostics.render(&read.sources, colour()));
        Found { socket: self.socket.clone().or(read.control), wrong }
    }
}

/// What the daemon's file says.
pub(super) struct Found {
    socket: Option<PathBuf>,
    /// What is wrong with it, drawn, where a daemon would not take it.
    pub(super) wrong: Option<String>,
}

/// What was answered.
pub(super) struct Answered<T> {
    pub(super) answer: T,
    /// As it came.
    pub(super) text: String,
}

impl Found {
    /// Asks; an exit code where there is no answer, which has been told then.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &'static str,
        within: Duration,
    ) -> Result<Answered<T>, u8> {
        let Some(socket) = &self.socket else {
            match &self.wrong {
                None => complain(
                    "the daemon's file says `enabled = false` in [control]: there is nothing to ask on",
                ),
                Some(wrong) => {
                    let _ = write!(io::stderr().lock(), "{wrong}");
                    complain(
                        "the daemon's file is wrong, and does not tell where the daemon is asked: say --socket PATH",
                    );
                }
            }
            return Err(exit::CONFIG);
        };
        let body = ask(socket, method, path, within).map_err(|error| {
            complain(&format!("{}: {}", socket.display(), with_causes(&error)));
            match error {
                AskError::NoDaemon(_) => {
                    complain("is it running? `systemctl status encr-milter` shows; or its log says why it has no control socket");
                    exit::UNAVAILABLE
                }
                AskError::Forbidden => exit::NO_PERMISSION,
                AskError::Silent(_) | AskError::Cut(_) => exit::UNAVAILABLE,
                AskError::Io(_) => exit::OS,
            }
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match serde_json::from_str(&text) {
            Ok(answer) => Ok(Answered { answer, text }),
            Err(error) => {
                complain(&format!(
                    "{}: an answer that this version does not understand ({error}): is the daemon of another version?",
                    socket.display()
                ));
                Err(exit::UNAVAILABLE)
            }
        }
    }
}
