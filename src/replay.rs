//! Logs to decision records, one after another: what happened, to be judged again.
//!
//! Takes our own records and sendmail's mail log, mixed at will, plain or packed, files or standard input. What a line
//! is, it says itself. Promises: it streams, memory does not grow with the logs; rotated files come in the order of
//! time, by whatever names they are given; what cannot be read is told with its file, and the rest goes on.
//! Must not: judge.

mod decisions;
mod lines;
mod notes;
mod source;

pub use lines::LONGEST;
pub use source::Packing;

use crate::policy::record::Record;
use crate::sendmail::mail_log::{self, Joiner};
use decisions::Broken;
use lines::{Line, Lines};
use source::Source;
use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Why a log was not read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be opened, or not be read at all.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// A folder.
    #[error("it is a folder; name the files in it")]
    Folder,
    /// Packed in a way that is not known here: its name, and the command that unpacks it to standard output.
    #[error("it is packed with {0}; unpack it into standard input: {1} FILE | encr-milter … -")]
    Unsupported(&'static str, &'static str),
    /// Given twice.
    #[error("it was named before, and is read once")]
    Twice,
    /// It broke off: after so many lines.
    #[error("it breaks off or is damaged behind line {lines}: {error}; what stands before that counts")]
    Damaged {
        /// The lines that were read.
        lines: u64,
        /// What reading said.
        error: io::Error,
    },
}

/// A log of which something is to be told.
#[derive(Debug)]
pub struct Problem {
    /// Its name.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is one of our own, and has the verdict of its day.
    Decision,
    /// It was put together from sendmail's log, and has none.
    MailLog,
}

/// What a log was found to be.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LogRead {
    /// Its name, `-` for standard input.
    pub name: String,
    /// How it was packed.
    pub packing: Packing,
    /// Its lines.
    pub lines: u64,
    /// Whether it was read to its end.
    pub complete: bool,
}

/// What was read.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// The logs, in the order of reading.
    pub logs: Vec<LogRead>,
    /// Their bytes as they were read, still packed.
    pub bytes: u64,
    /// Their lines.
    pub lines: u64,
    /// Our own records.
    pub decisions: u64,
    /// Objects that are no records: other events of a daemon that logs JSON.
    pub other_objects: u64,
    /// Lines that begin as JSON and are none.
    pub broken_json: u64,
    /// Lines longer than [`LONGEST`].
    pub too_long: u64,
    /// What became of the lines that are not JSON.
    pub mail_log: mail_log::Tally,
}

/// Takes what is replayed.
pub trait Audience {
    /// A message or a recipient of one. `Break` ends the replay.
    fn record(&mut self, origin: Origin, record: &Record<'_>) -> ControlFlow<()>;

    /// So many bytes of all logs have been read, as they lie there. Called every now and then.
    fn progress(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// Something is wrong with a log; the others are read.
    fn problem(&mut self, problem: Problem);
}

/// How sendmail's log is read.
pub type Options = mail_log::Options;

/// Logs that are to be replayed, in the order of time.
pub struct Replay {
    inputs: Vec<Input>,
    options: Options,
    joiner: Joiner,
    count: Rc<Cell<u64>>,
    total: Option<u64>,
}

struct Input {
    path: PathBuf,
    /// When it was last written, or now: the year of stamps that have none.
    reference: jiff::Timestamp,
    /// Where it cannot be opened a second time.
    open: Option<Source>,
    /// Its first time stamp, and the host beside it.
    first: Option<(jiff::Timestamp, String)>,
}

impl Replay {
    /// Looks at the beginning of each log, where there are several, and puts them in order. What cannot be opened is
    /// told, and left out. `-` is standard input. [`Options::reference`] is now.
    pub fn new(paths: &[PathBuf], options: Options, audience: &mut impl Audience) -> Self {
        let joiner = Joiner::new(options.clone());
        let mut replay = Self { inputs: Vec::new(), options, joiner, count: Rc::default(), total: Some(0) };
        let mut seen = HashSet::new();
        let mut standard_input = false;
        for path in paths {
            let known = source::meta(path).and_then(|meta| {
                let twice = match meta.identity {
                    Some(identity) => !seen.insert(identity),
                    None => source::is_standard_input(path) && std::mem::replace(&mut standard_input, true),
                };
                if twice { Err(Fault::Twice) } else { Ok(meta) }
            });
            match known.and_then(|meta| replay.input(path, meta, paths.len() > 1)) {
                Ok((input, size)) => {
                    replay.inputs.push(input);
                    replay.total = replay.total.zip(size).map(|(total, size)| total + size);
                }
                Err(fault) => audience.problem(Problem { path: path.clone(), fault }),
            }
        }
        // What has no time stamp stays where it was named, before all others.
        replay.inputs.sort_by(|a, b| a.first.cmp(&b.first));
        replay
    }

    /// The bytes of all logs as they lie there, where that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    fn input(&self, path: &Path, meta: source::Meta, several: bool) -> Result<(Input, Option<u64>), Fault> {
        let reference = meta.modified.unwrap_or(self.options.reference);
        let mut input = Input { path: path.to_path_buf(), reference, open: None, first: None };
        let again = meta.identity.is_some();
        if several || !again {
            // What is only looked at is read again, and counts then.
            let count = if again { Rc::default() } else { Rc::clone(&self.count) };
            let mut source = Source::open(path, &count)?;
            let mut head = Vec::new();
            if several {
                // A fault is told when the log is read.
                let _ = beginning(&mut source, &mut head, again);
                let options = Options { reference, ..self.options.clone() };
                input.first = tails(&head).find_map(|tail| first_stamp(tail, &options));
            }
            input.open = (!again).then(|| source.behind(head));
        }
        Ok((input, meta.size))
    }

    /// Reads all logs, and gives every record to the audience. Once.
    pub fn run(&mut self, audience: &mut impl Audience) -> Tally {
        let Self { inputs, joiner, count, .. } = self;
        let mut reading = Reading { joiner, tally: Tally::default(), count, audience };
        let mut buffer = Vec::new();
        for input in inputs.drain(..) {
            if reading.input(input, &mut buffer).is_break() {
                break;
            }
        }
        let Reading { joiner, mut tally, audience, .. } = reading;
        let mut flow = ControlFlow::Continue(());
        joiner.finish(&mut |record| emit(audience, record, &mut flow));
        tally.mail_log = joiner.tally().clone();
        tally.bytes = count.get();
        tally
    }
}

/// So many bytes are looked at to find a log's first time stamp.
const BEGINNING: usize = 64 * 1024;

fn beginning(source: &mut Source, head: &mut Vec<u8>, is_file: bool) -> io::Result<()> {
    use io::Read;
    // A pipe is not waited for longer than to its first lines.
    while head.len() < BEGINNING && (is_file || memchr::memchr(b'\n', head).is_none()) {
        let mut piece = [0; 8192];
        let read = source.read(&mut piece)?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    Ok(())
}

/// From each line on to the end.
fn tails(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let feeds = memchr::memchr_iter(b'\n', head).map(|feed| feed + 1);
    std::iter::once(0).chain(feeds).filter_map(|start| head.get(start..))
}

/// The time stamp of the first of these lines, which may be of either kind, and the host.
fn first_stamp(lines: &[u8], options: &Options) -> Option<(jiff::Timestamp, String)> {
    #[derive(serde::Deserialize)]
    struct Stamped {
        ts: jiff::Timestamp,
        #[serde(default)]
        host: String,
    }
    let line = lines.split(|byte| *byte == b'\n').next()?;
    if line.trim_ascii_start().first() == Some(&b'{') {
        let stamped: Stamped = serde_json::from_slice(line).ok()?;
        return Some((stamped.ts, stamped.host));
    }
    mail_log::stamp_of(lines, options).map(|(ts, host)| (ts, host.into_owned()))
}

/// The joiner's records go on until the audience has enough.
fn emit(audience: &mut impl Audience, record: &Record<'_>, flow: &mut ControlFlow<()>) {
    if flow.is_continue() {
        *flow = audience.record(Origin::MailLog, record);
    }
}

/// A replay under way.
struct Reading<'a, A> {
    joiner: &'a mut Joiner,
    tally: Tally,
    count: &'a Rc<Cell<u64>>,
    audience: &'a mut A,
}

impl<A: Audience> Reading<'_, A> {
    fn input(&mut self, input: Input, buffer: &mut Vec<u8>) -> ControlFlow<()> {
        let Input { path, reference, open, .. } = input;
        let mut source = match open.map_or_else(|| Source::open(&path, self.count), Ok) {
            Ok(source) => source,
            Err(fault) => {
                self.audience.problem(Problem { path, fault });
                return ControlFlow::Continue(());
            }
        };
        self.joiner.begin_file(reference);
        let before = self.tally.lines;
        let end = lines::each(buffer, &mut source, self);
        let lines = self.tally.lines - before;
        self.tally.logs.push(LogRead {
            name: path.display().to_string(),
            packing: source.packing,
            lines,
            complete: end.is_ok(),
        });
        end.unwrap_or_else(|error| {
            self.audience.problem(Problem { path, fault: Fault::Damaged { lines, error } });
            ControlFlow::Continue(())
        })
    }

    fn json(&mut self, line: &[u8]) -> ControlFlow<()> {
        let mut record = Record::default();
        match decisions::read(line, &mut record) {
            Ok(true) => {
                self.tally.decisions += 1;
                return self.audience.record(Origin::Decision, &record);
            }
            Ok(false) => self.tally.other_objects += 1,
            Err(Broken) => self.tally.broken_json += 1,
        }
        ControlFlow::Continue(())
    }
}

impl<A: Audience> Lines for Reading<'_, A> {
    fn line(&mut self, line: Line<'_>) -> ControlFlow<()> {
        self.tally.lines += 1;
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                self.tally.too_long += 1;
                return ControlFlow::Continue(());
            }
        };
        if line.trim_ascii_start().first() == Some(&b'{') {
            return self.json(line);
        }
        if let Some(object) = decisions::in_syslog(line) {
            return self.json(object);
        }
        let mut flow = ControlFlow::Continue(());
        let audience = &mut *self.audience;
        self.joiner.line(line, &mut |record| emit(audience, record, &mut flow));
        flow
    }

    fn read(&mut self, _: u64) -> ControlFlow<()> {
        self.audience.progress(self.count.get());
        ControlFlow::Continue(())
    }
}
