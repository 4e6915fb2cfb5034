//! What every command does that replays logs: it shows how far it has got, and tells what is wrong with a log.

use super::{complain, exit};
use crate::replay::{Fault, Problem};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// Watches a replay.
pub(super) struct Watch {
    bar: ProgressBar,
    unreadable: bool,
    damaged: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self { bar: ProgressBar::hidden(), unreadable: false, damaged: false }
    }
}

impl Watch {
    /// Begins to show how far it has got, for somebody who watches: not where output scrolls over the same terminal.
    pub(super) fn begin(&mut self, total: Option<u64>, scrolls: bool) {
        if !io::stderr().is_terminal() || (scrolls && io::stdout().is_terminal()) {
            return;
        }
        let template = match total {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes}, {bytes_per_sec}",
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        self.bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
    }

    /// So many bytes have been read.
    pub(super) fn progress(&self, bytes: u64) {
        self.bar.set_position(bytes);
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
