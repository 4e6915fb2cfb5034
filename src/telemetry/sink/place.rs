//! The writer's end: what is done with a batch of entries, and with a place that does not take them.
//!
//! Promises: lines for standard error and files, one by one for receivers. What a file does not take is lost at once
//! and counted, and that is told on standard error where it is the log; what a receiver does not take is held and tried again, until it does, or the place changes, or the
//! daemon has to end.

use super::journal::Journal;
use super::lines::Lines;
use super::syslog::Syslog;
use super::{Change, LossNote, State, Target};
use crate::telemetry::entry::{Entry, Format, Said};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::Level;

/// How long it is between two attempts at a receiver, the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A receiver that is restarted is back by then; one that is not is told of.
const RESTARTED_WITHIN: Duration = Duration::from_secs(2);
/// How long a receiver that is away is tried when the daemon has to end.
const CLOSING: Duration = Duration::from_secs(2);

/// Somebody who takes entries one by one, with their fields.
pub(super) trait Receiver: Send {
    /// The message for one entry.
    fn message(&self, entry: &Entry, said: &Said<'_>, format: Format) -> Vec<u8>;

    /// Brings it there. Blocks for a moment at most: who cannot take it now is asked again, with the same message.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// How many messages got lost since this was asked last, though they had been sent.
    fn lost(&mut self) -> u64 {
        0
    }
}

enum Place {
    Nowhere,
    Lines(Lines),
    Receiver(Box<dyn Receiver>),
}

impl Place {
    /// The place, and whether it is open. Receivers are opened when there is something to send.
    fn open(target: &Target) -> (Self, io::Result<()>) {
        match target {
            Target::Nowhere => (Self::Nowhere, Ok(())),
            Target::Stderr => (Self::Lines(Lines::stderr()), Ok(())),
            Target::File(path) => {
                let (lines, opened) = Lines::file(path);
                (Self::Lines(lines), opened)
            }
            Target::Journal { socket, facility } => {
                (Self::Receiver(Box::new(Journal::new(socket, *facility))), Ok(()))
            }
            Target::Syslog(settings) => (Self::Receiver(Box::new(Syslog::new(settings))), Ok(())),
        }
    }
}

/// A receiver, or the log's file, that does not take entries.
struct Away {
    since: Instant,
    error: io::Error,
    told: bool,
}

/// What came of an attempt to bring an entry away.
enum Outcome {
    Done,
    /// There is another place now.
    Elsewhere,
    /// The daemon ends, and nobody takes it.
    GivenUp,
}

pub(super) struct Output {
    place: Place,
    format: Format,
    /// Where entries are to go: where this could not be opened, `place` is still the one before.
    target: Target,
    /// How many times it has been told another one.
    changes: u64,
    loss_note: Option<LossNote>,
    away: Option<Away>,
    /// Things of its own to say with the next batch.
    notes: Vec<Entry>,
    closing_since: Option<Instant>,
    buffer: Vec<u8>,
}

impl Output {
    pub(super) fn new(target: Target, format: Format, loss_note: Option<LossNote>) -> (Self, io::Result<()>) {
        let (place, opened) = Place::open(&target);
        let mut away = None;
        if let (Err(error), Some(_)) = (&opened, &loss_note) {
            // Else nobody would ever see it: the words for it go to the very log that cannot be opened.
            Away::goes_on(&mut away, copy(error), &target, Duration::ZERO);
        }
        let output = Self {
            place,
            format,
            target,
            changes: 0,
            loss_note,
            away,
            notes: Vec::new(),
            closing_since: None,
            buffer: Vec::new(),
        };
        (output, opened)
    }

    /// Opens the place anew. Where that fails the old one is still good, and it is tried again with the next batch.
    pub(super) fn reopen(&mut self, state: &State) {
        let (place, opened) = Place::open(&self.target);
        state.stale.store(opened.is_err(), Ordering::Relaxed);
        if opened.is_ok() {
            self.place = place;
        }
    }

    /// Goes where it is told to go, unless it has been told something later before.
    pub(super) fn change(&mut self, change: Change, state: &State) {
        if change.number > self.changes {
            self.changes = change.number;
            self.format = change.format;
            if change.target != self.target {
                self.target = change.target;
                self.away = None;
                self.reopen(state);
            }
        }
    }

    /// Goes where it has been told to go last, whatever is in the queue.
    pub(super) fn catch_up(&mut self, state: &State) {
        let last = state.last_change().clone();
        if let Some(last) = last {
            self.change(last, state);
        }
    }

    /// Brings away what is in the batch, and empties it.
    pub(super) fn write(&mut self, batch: &mut Vec<Entry>, state: &State, closing: bool) {
        if state.stale.load(Ordering::Relaxed) {
            self.reopen(state);
        }
        let mut notes = std::mem::take(&mut self.notes);
        // What a note counts is in no later one: until it is written there is no further one.
        if notes.is_empty() || closing {
            notes.extend(self.loss_note.as_mut().map(|note| note(closing)).unwrap_or_default());
        }
        if let Place::Receiver(_) = self.place {
            // They are held as all else is.
            state.waiting.fetch_add(notes.len() as u64, Ordering::Relaxed);
            batch.splice(0..0, notes.drain(..));
        }
        let mut rest = batch.as_slice();
        while !rest.is_empty() || !notes.is_empty() {
            if let Place::Receiver(_) = self.place {
                rest = self.send_all(rest, state);
            } else {
                self.write_lines(std::mem::take(&mut notes), rest, state);
                rest = &[];
            }
        }
        batch.clear();
    }

    /// Writes notes and entries as lines. Notes that could not be written are kept.
    fn write_lines(&mut self, notes: Vec<Entry>, entries: &[Entry], state: &State) {
        let count = entries.len() as u64;
        if let Place::Lines(lines) = &mut self.place {
            self.buffer.clear();
            for note in &notes {
                lines.render(note, self.format, &mut self.buffer);
            }
            let of_notes = self.buffer.len();
            for entry in entries {
                lines.render(entry, self.format, &mut self.buffer);
            }
            let written = lines.write(&self.buffer);
            if written.is_ok() {
                self.notes.extend(self.away.take().and_then(Away::over));
            }
            if let Err((written, error)) = written {
                // What the file of decisions loses, the log tells.
                if matches!(self.target, Target::File(_)) && self.loss_note.is_some() {
                    Away::goes_on(&mut self.away, error, &self.target, RESTARTED_WITHIN);
                }
                // Lines that got through whole are not lost.
                let through =
                    self.buffer.iter().take(written).skip(of_notes).filter(|b| **b == b'\n').count();
                state.not_written.fetch_add(count.saturating_sub(through as u64), Ordering::Relaxed);
                if written < of_notes {
                    self.notes = notes;
                }
            }
        }
        state.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Sends one after the other; gives those that another place is to have.
    fn send_all<'e>(&mut self, entries: &'e [Entry], state: &State) -> &'e [Entry] {
        for (place, entry) in entries.iter().enumerate() {
            match self.send(entry, state) {
                Outcome::Done => {
                    state.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                // Counted by whoever closes: they go on waiting.
                Outcome::GivenUp => return &[],
                Outcome::Elsewhere => {
                    self.catch_up(state);
                    return entries.get(place..).unwrap_or_default();
                }
            }
        }
        &[]
    }

    /// Sends one, and holds on to it while nobody takes it.
    fn send(&mut self, entry: &Entry, state: &State) -> Outcome {
        let Place::Receiver(receiver) = &mut self.place else { return Outcome::Elsewhere };
        let message = receiver.message(entry, &entry.said(), self.format);
        let mut pause = FIRST_PAUSE;
        loop {
            if state.closing.load(Ordering::Relaxed) {
                let since = *self.closing_since.get_or_insert_with(Instant::now);
                if self.away.is_some() && since.elapsed() >= CLOSING {
                    return Outcome::GivenUp;
                }
            }
            let sent = receiver.send(&message);
            state.not_written.fetch_add(receiver.lost(), Ordering::Relaxed);
            match sent {
                Ok(()) => {
                    self.notes.extend(self.away.take().and_then(Away::over));
                    return Outcome::Done;
                }
                // It is this one that nobody will ever take.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    state.not_written.fetch_add(1, Ordering::Relaxed);
                    return Outcome::Done;
                }
                Err(error) => Away::goes_on(&mut self.away, error, &self.target, RESTARTED_WITHIN),
            }
            if state.last_change().as_ref().is_some_and(|last| last.number > self.changes) {
                return Outcome::Elsewhere;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Away {
    /// Once it has lasted that long, it is told where somebody may still see it.
    fn goes_on(away: &mut Option<Self>, error: io::Error, target: &Target, patience: Duration) {
        let since = away.as_ref().map_or_else(Instant::now, |away| away.since);
        let told = away.as_ref().is_some_and(|away| away.told);
        let away = away.insert(Self { since, error, told });
        if !told && since.elapsed() >= patience {
            away.told = true;
            let fields = vec![("output", target.to_string()), ("error", away.error.to_string())];
            complain(&Entry::now(Level::ERROR, "the log is not taken; trying again", fields));
        }
    }

    /// What is to be said when it is over.
    fn over(self) -> Option<Entry> {
        let fields =
            vec![("seconds", self.since.elapsed().as_secs().to_string()), ("error", self.error.to_string())];
        self.told.then(|| Entry::now(Level::WARN, "the log is taken again", fields))
    }
}

/// The same error once more: whoever opened the place is told, too.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Says something of the log itself on standard error.
fn complain(entry: &Entry) {
    let mut line = Vec::new();
    Lines::stderr().render(entry, Format::Text, &mut line);
    // Nobody is left to tell.
    let _ = io::stderr().lock().write(&line);
}

/// A socket's error that concerns this message, not the receiver.
pub(super) fn too_large(length: usize, path: &Path) -> io::Error {
    let words = format!("{} does not take a message of {length} bytes", path.display());
    io::Error::new(io::ErrorKind::InvalidData, words)
}
