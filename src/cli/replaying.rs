//! What every command does that replays logs: it shows how far it has got, and tells what is wrong with a log.

use super::{complain, exit};
use crate::replay::{Fault, Problem};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// So long nobody asks how far it has got.
const AT_ONCE: Duration = Duration::from_millis(400);

/// Watches a replay.
pub(super) struct Watch {
    bar: ProgressBar,
    begun: Instant,
    is_watched: bool,
    unreadable: bool,
    damaged: bool,
}

impl Watch {
    /// For somebody who watches: not where output scrolls over the same terminal.
    pub(super) fn new(scrolls: bool) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            begun: Instant::now(),
            is_watched: io::stderr().is_terminal() && !(scrolls && io::stdout().is_terminal()),
            unreadable: false,
            damaged: false,
        }
    }

    /// Of so many bytes.
    pub(super) fn begin(&mut self, total: Option<u64>) {
        let template = match total {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}",
        };
        self.bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// So many bytes have been read. It is shown once it takes long.
    pub(super) fn progress(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
        if self.is_watched && self.begun.elapsed() > AT_ONCE {
            self.is_watched = false;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Tells what is wrong with a log.
    pub(super) fn problem(&mut self, problem: &Problem) {
        match problem.fault {
            Fault::Unreadable(_) | Fault::Folder => self.unreadable = true,
            Fault::Unsupported(..) | Fault::Damaged { .. } => self.damaged = true,
            Fault::Twice => {}
        }
        self.bar.suspend(|| complain(&format!("{}: {}", problem.path.display(), problem.fault)));
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// The exit code for what was wrong.
    pub(super) fn code(&self) -> u8 {
        match (self.unreadable, self.damaged) {
            (true, _) => exit::NO_INPUT,
            (false, true) => exit::DATA,
            (false, false) => exit::OK,
        }
    }
}
