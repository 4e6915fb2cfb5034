//! The daemon's log and its file of decisions: opened first, closed last.

use super::StartError;
use crate::telemetry::decisions::Decisions;
use crate::telemetry::entry::{Entry, Format};
use crate::telemetry::log::{self, Settings, Switch};
use crate::telemetry::sink::{LossNote, Sink, Target, Writer};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Level;

/// How often it is looked whether something was lost.
pub(super) const LOOK_FOR_LOSSES: Duration = Duration::from_secs(10);

/// The log and the decisions, open.
pub(super) struct Outputs {
    pub(super) log: Writer,
    decisions_file: Writer,
    pub(super) decisions: Arc<Decisions>,
    level: log::LevelControl,
}

impl Outputs {
    pub(super) fn open(settings: &Settings) -> Result<Self, StartError> {
        let set = |error| StartError::Set("the log", error);
        let target = settings.decisions_target();
        let (decisions_file, opened) =
            Sink::start(target.clone(), Format::Json, "decisions", |_| None).map_err(set)?;
        let file = decisions_file.sink().clone();
        let mut unopened = vec![(target, opened)];
        let note = |log: &Sink| Some(loss_note(log.clone(), file.clone()));
        let (log, opened) =
            Sink::start(settings.output.clone(), settings.format, "log", note).map_err(set)?;
        unopened.push((settings.output.clone(), opened));
        let (subscriber, level) = log::subscriber(log.sink().clone(), settings.level);
        tracing::subscriber::set_global_default(subscriber).map_err(|error| set(io::Error::other(error)))?;
        for (target, opened) in unopened {
            tell_unopened(&target, opened);
        }
        let decisions = Decisions::new(
            log.sink().clone(),
            settings.has_decisions(),
            decisions_file.sink().clone(),
            settings.decisions.is_some(),
        );
        Ok(Self { log, decisions_file, decisions: Arc::new(decisions), level })
    }

    /// What changes the settings of both.
    pub(super) fn switch(&self) -> Switch {
        Switch {
            level: self.level.clone(),
            log: self.log.sink().clone(),
            file: self.decisions_file.sink().clone(),
            decisions: Arc::clone(&self.decisions),
        }
    }

    /// The ways to them, by name.
    pub(super) fn sinks(&self) -> Vec<(&'static str, Sink)> {
        vec![("log", self.log.sink().clone()), ("decisions", self.decisions_file.sink().clone())]
    }

    pub(super) fn reopen(&self) {
        self.log.sink().reopen();
        self.decisions_file.sink().reopen();
    }

    /// Writes what is left of the decisions; what cannot be written is said while there is a log.
    pub(super) fn close_decisions(self) -> Log {
        let given_up = self.decisions_file.close();
        if given_up > 0 {
            tracing::warn!(
                output = "decisions",
                lines = given_up,
                "lines were lost: they could not be written in time"
            );
        }
        Log(self.log)
    }
}

/// The log, when all else has ended.
pub(super) struct Log(Writer);

impl Log {
    pub(super) fn close(self) {
        let given_up = self.0.close();
        if given_up > 0 {
            // Whoever reads standard error, where that is not the log itself, may tell.
            let _ = writeln!(
                io::stderr().lock(),
                "encr-milter: {given_up} lines of the log were lost: nobody took them in time"
            );
        }
    }
}

/// The words for lines that the log or the file of decisions lost, and for a file that could not be opened
/// anew. Said by the log's writer.
fn loss_note(log: Sink, decisions: Sink) -> LossNote {
    let mut said = [(0, 0); 2];
    let mut said_stale = [false; 2];
    let mut last: Option<Instant> = None;
    Box::new(move |closing| {
        // A disk that is full loses line after line: said now and then, not after each.
        if !closing && last.is_some_and(|last| last.elapsed() < LOOK_FOR_LOSSES) {
            return Vec::new();
        }
        let mut note = Vec::new();
        let places = [(&log, "log"), (&decisions, "decisions")];
        for (((sink, name), said), said_stale) in places.into_iter().zip(&mut said).zip(&mut said_stale) {
            let output = ("output", name.to_owned());
            let (queue_full, not_written) = sink.lost();
            if (queue_full, not_written) != *said {
                let fields = vec![
                    output.clone(),
                    ("queue_full", (queue_full - said.0).to_string()),
                    ("not_written", (not_written - said.1).to_string()),
                ];
                note.push(Entry::now(Level::WARN, "lines were lost", fields));
                *said = (queue_full, not_written);
            }
            if sink.is_stale() && !*said_stale {
                let words = "cannot open the file anew; trying again with every line";
                note.push(Entry::now(Level::ERROR, words, vec![output]));
            }
            *said_stale = sink.is_stale();
        }
        if !note.is_empty() {
            last = Some(Instant::now());
        }
        note
    })
}

/// A log that cannot be opened costs lines, not mail: they flow as soon as it can.
fn tell_unopened(target: &Target, opened: io::Result<()>) {
    if let (Target::File(path), Err(error)) = (target, opened) {
        let help =
            "is its folder there, and may the daemon's user write to both? `namei -l` shows whose they are";
        tracing::error!(file = %path.display(), %error, help, "cannot open; trying again with every line");
    }
}
