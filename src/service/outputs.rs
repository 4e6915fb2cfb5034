//! The daemon's log and its file of decisions: opened first, closed last.

use super::StartError;
use crate::daemon_file::DaemonFile;
use crate::telemetry::decisions::Decisions;
use crate::telemetry::log;
use crate::telemetry::sink::{LossNote, Sink, Target, Writer};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether something was lost.
pub(super) const LOOK_FOR_LOSSES: Duration = Duration::from_secs(10);

/// The log and the decisions, open.
pub(super) struct Outputs {
    pub(super) log: Writer,
    decisions_file: Option<Writer>,
    pub(super) decisions: Arc<Decisions>,
    pub(super) level: log::LevelControl,
}

impl Outputs {
    pub(super) fn open(daemon: &DaemonFile) -> Result<Self, StartError> {
        let set = |error| StartError::Set("the log", error);
        let mut unopened = Vec::new();
        let decisions_file = match &daemon.decisions {
            None => None,
            Some(path) => {
                let target = Target::File(path.clone());
                let (writer, opened) = Sink::start(target.clone(), "decisions", |_| None).map_err(set)?;
                unopened.push((target, opened));
                Some(writer)
            }
        };
        let file = decisions_file.as_ref().map(|writer| writer.sink().clone());
        let note = |log: &Sink| Some(loss_note(daemon.format, log.clone(), file.clone()));
        let (log, opened) = Sink::start(daemon.output.clone(), "log", note).map_err(set)?;
        unopened.push((daemon.output.clone(), opened));
        let (subscriber, level) = log::subscriber(log.sink().clone(), daemon.format, daemon.level);
        tracing::subscriber::set_global_default(subscriber).map_err(|error| set(io::Error::other(error)))?;
        for (target, opened) in unopened {
            tell_unopened(&target, opened);
        }
        let in_log = daemon.level >= tracing::Level::INFO;
        let decisions = Arc::new(Decisions::new(log.sink().clone(), daemon.format, in_log, file));
        Ok(Self { log, decisions_file, decisions, level })
    }

    pub(super) fn reopen(&self) {
        self.log.sink().reopen();
        if let Some(file) = &self.decisions_file {
            file.sink().reopen();
        }
    }

    /// The ways to what is written, by its name.
    pub(super) fn sinks(&self) -> Vec<(&'static str, Sink)> {
        let file = self.decisions_file.as_ref().map(|file| ("decisions", file.sink().clone()));
        [Some(("log", self.log.sink().clone())), file].into_iter().flatten().collect()
    }

    /// Writes what is left of the decisions; what cannot be written is said while there is a log.
    pub(super) fn close_decisions(mut self) -> Self {
        let given_up = self.decisions_file.take().map_or(0, Writer::close);
        if given_up > 0 {
            tracing::warn!(
                output = "decisions",
                lines = given_up,
                "lines were lost: they could not be written in time"
            );
        }
        self
    }

    pub(super) fn close(self) {
        // Nobody is left to tell what the log itself could not write.
        let _ = self.log.close();
    }
}

/// The words for lines that the log or the file of decisions lost, and for a file that could not be opened
/// anew. Said by the log's writer.
fn loss_note(format: log::Format, log: Sink, decisions: Option<Sink>) -> LossNote {
    let mut said = [(0, 0); 2];
    let mut said_stale = [false; 2];
    let mut last: Option<Instant> = None;
    Box::new(move |closing| {
        // A disk that is full loses line after line: said now and then, not after each.
        if !closing && last.is_some_and(|last| last.elapsed() < LOOK_FOR_LOSSES) {
            return None;
        }
        let mut note = Vec::new();
        let places = [(Some(&log), "log"), (decisions.as_ref(), "decisions")];
        for (((sink, name), said), said_stale) in places.into_iter().zip(&mut said).zip(&mut said_stale) {
            let Some(sink) = sink else { continue };
            let output = ("output", name.to_owned());
            let (queue_full, not_written) = sink.lost();
            if (queue_full, not_written) != *said {
                let fields = vec![
                    output.clone(),
                    ("queue_full", (queue_full - said.0).to_string()),
                    ("not_written", (not_written - said.1).to_string()),
                ];
                note.extend(format.line(tracing::Level::WARN, "lines were lost".to_owned(), fields));
                *said = (queue_full, not_written);
            }
            if sink.is_stale() && !*said_stale {
                let words = "cannot open the file anew; trying again with every line".to_owned();
                note.extend(format.line(tracing::Level::ERROR, words, vec![output]));
            }
            *said_stale = sink.is_stale();
        }
        if note.is_empty() {
            return None;
        }
        last = Some(Instant::now());
        Some(note)
    })
}

/// A log that cannot be opened costs lines, not mail: they flow as soon as it can.
fn tell_unopened(target: &Target, opened: io::Result<()>) {
    if let (Target::File(path), Err(error)) = (target, opened) {
        tracing::error!(file = %path.display(), %error, "cannot open; trying again with every line");
    }
}
