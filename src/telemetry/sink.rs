//! A place that lines go to: standard error or a file, written by a thread of its own.
//!
//! Promises: [`Sink::line`] never waits. A line that finds the queue full, or that the disk does not take,
//! is lost and counted, and the writer itself says so where it can write again; a full disk or a missing
//! folder is tried again with every batch, so that lines flow again as soon as they can. Every line that was
//! taken is written before [`Writer::close`] returns, or counted among those that it gave up.

use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that may wait. At 500 bytes each this is some 8 MB, and half a second of a very busy site.
const QUEUE: usize = 16 * 1024;
/// Their bytes, at the most: lines may be long where an MTA tells long things.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that are written at once.
const BATCH: usize = 128 * 1024;
/// How long a batch waits for a pipe's reader: so often, so long.
const MOMENTS: u32 = 100;
const MOMENT: Duration = Duration::from_millis(10);
/// How long `close` waits for a disk that does not answer.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

enum Message {
    Line(Vec<u8>),
    Reopen,
    Close(SyncSender<()>),
}

/// What the two ends of a queue share.
#[derive(Debug, Default)]
struct State {
    queue_full: AtomicU64,
    not_written: AtomicU64,
    /// Bytes of lines that wait in the queue.
    bytes: AtomicUsize,
    /// Lines that were taken, and are neither written nor lost yet.
    waiting: AtomicU64,
    /// The file could not be opened anew: lines go to the old one, or nowhere.
    stale: AtomicBool,
    /// A reopening for which the queue had no room: done with the next batch.
    reopen: AtomicBool,
}

/// Words for lines that were lost, if some were and it is time to say so; at the end (`true`) it is. Asked by
/// the writer before it writes, so that the words cannot get lost in the queue that lost the lines.
pub type LossNote = Box<dyn FnMut(bool) -> Option<Vec<u8>> + Send>;

/// The way to a place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Message>,
    state: Arc<State>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    thread: JoinHandle<()>,
}

impl Sink {
    /// Starts a writer, and tries to open its file; what came of that is told. `loss_note` makes the note
    /// of this place's (or another's) losses.
    pub fn start(
        target: Target,
        name: &str,
        loss_note: impl FnOnce(&Self) -> Option<LossNote>,
    ) -> io::Result<(Writer, io::Result<()>)> {
        let (queue, messages) = sync_channel(QUEUE);
        let state = Arc::new(State::default());
        let sink = Self { queue, state: Arc::clone(&state) };
        let mut output = Output {
            target,
            file: None,
            torn: false,
            closing: false,
            loss_note: loss_note(&sink),
            unsaid: None,
        };
        let opened = output.open();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_lines(&messages, &mut output, &state))?;
        Ok((Writer { sink, thread }, opened))
    }

    /// Takes a line, with its line feed. Never waits.
    pub fn line(&self, line: Vec<u8>) {
        let bytes = line.len();
        self.state.waiting.fetch_add(1, Ordering::Relaxed);
        let before = self.state.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > QUEUE_BYTES || self.queue.try_send(Message::Line(line)).is_err() {
            self.state.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.state.waiting.fetch_sub(1, Ordering::Relaxed);
            self.state.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, after all lines that were taken before: it has been moved away.
    pub fn reopen(&self) {
        if self.queue.try_send(Message::Reopen).is_err() {
            self.state.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the file could not be opened anew, and is tried again.
    pub fn is_stale(&self) -> bool {
        self.state.stale.load(Ordering::Relaxed)
    }

    /// How many lines were lost so far: for a full queue, and for a disk that did not take them.
    pub fn lost(&self) -> (u64, u64) {
        (self.state.queue_full.load(Ordering::Relaxed), self.state.not_written.load(Ordering::Relaxed))
    }
}

impl Writer {
    /// The way to it.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Writes what is left, and ends. Gives up on a disk (or a reader) that does not answer; tells how many
    /// lines it gave up.
    pub fn close(self) -> u64 {
        let state = Arc::clone(&self.sink.state);
        self.finish();
        state.waiting.load(Ordering::Relaxed)
    }

    fn finish(self) {
        let (done, wait) = sync_channel(1);
        let deadline = Instant::now() + CLOSE_WITHIN;
        let mut message = Message::Close(done);
        while let Err(TrySendError::Full(again)) = self.sink.queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        if wait.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            != Err(RecvTimeoutError::Timeout)
        {
            // It has answered, so it has ended; a panic in it has been printed already.
            let _ = self.thread.join();
        }
    }
}

fn write_lines(messages: &Receiver<Message>, output: &mut Output, state: &State) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        let mut lines = 0;
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    state.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    batch.extend_from_slice(&line);
                    lines += 1;
                    if batch.len() < BATCH {
                        next = messages.try_recv().ok();
                    }
                }
                Message::Reopen => {
                    output.write(&mut batch, &mut lines, state);
                    output.reopen(state);
                    next = messages.try_recv().ok();
                }
                Message::Close(done) => {
                    output.closing = true;
                    output.write(&mut batch, &mut lines, state);
                    // Whoever waits may have given up.
                    let _ = done.send(());
                    return;
                }
            }
        }
        output.write(&mut batch, &mut lines, state);
        if state.reopen.swap(false, Ordering::Relaxed) {
            output.reopen(state);
        }
    }
}

struct Output {
    target: Target,
    file: Option<File>,
    loss_note: Option<LossNote>,
    /// A note that could not be written either: what it counts is in no later one.
    unsaid: Option<Vec<u8>>,
    closing: bool,
    /// Whether the last write ended within a line.
    torn: bool,
}

impl Output {
    fn open(&mut self) -> io::Result<()> {
        if let Target::File(path) = &self.target {
            // A pipe that nobody reads must not hold up the start, nor one that is full the writer for ever.
            let flags = OFlag::O_NONBLOCK.bits();
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .mode(0o640)
                .custom_flags(flags)
                .open(path)?;
            // Whoever wrote before may have been cut off within a line.
            let meta = file.metadata()?;
            let mut last = [b'\n'];
            if meta.is_file() && meta.len() > 0 {
                file.read_exact_at(&mut last, meta.len() - 1)?;
            }
            self.torn = last != [b'\n'];
            self.file = Some(file);
        }
        Ok(())
    }

    /// Opens the file anew. Where that fails the old one is still good for lines, and it is tried again with
    /// the next ones.
    fn reopen(&mut self, state: &State) {
        state.stale.store(self.open().is_err(), Ordering::Relaxed);
    }

    fn write(&mut self, batch: &mut Vec<u8>, lines: &mut u64, state: &State) {
        if state.stale.load(Ordering::Relaxed) {
            self.reopen(state);
        }
        let waited = *lines;
        let closing = self.closing;
        let mut note = self.unsaid.take();
        if note.is_none() || closing {
            let more = self.loss_note.as_mut().and_then(|note| note(closing));
            note = note.map(|note| [note, more.clone().unwrap_or_default()].concat()).or(more);
        }
        let note = note.unwrap_or_default();
        batch.splice(0..0, note.iter().copied());
        if batch.is_empty() {
            state.waiting.fetch_sub(waited, Ordering::Relaxed);
            *lines = 0;
            return;
        }
        if let Err(written) = self.write_all(batch) {
            // Lines that got through whole are not lost.
            let through = batch.iter().take(written).skip(note.len()).filter(|b| **b == b'\n').count() as u64;
            self.unsaid = Some(note).filter(|note| written < note.len());
            state.not_written.fetch_add(lines.saturating_sub(through), Ordering::Relaxed);
            // Where nothing was written, what was torn before still is.
            if written > 0 {
                self.torn = batch.get(written - 1) != Some(&b'\n');
            }
            // Perhaps the file is on a disk that has been unmounted: open it anew next time.
            self.file = None;
        }
        state.waiting.fetch_sub(waited, Ordering::Relaxed);
        batch.clear();
        *lines = 0;
    }

    /// Writes all; or tells how much was written.
    fn write_all(&mut self, batch: &[u8]) -> Result<(), usize> {
        if matches!(self.target, Target::File(_)) && self.file.is_none() {
            self.open().map_err(|_| 0usize)?;
        }
        let torn = std::mem::take(&mut self.torn);
        if torn && self.write_once(b"\n").is_err() {
            self.torn = true;
            return Err(0);
        }
        let mut written = 0;
        let mut moments = MOMENTS;
        while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
            match self.write_once(rest) {
                Ok(0) => return Err(written),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A pipe whose reader is slow gets a moment.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && moments > 0 => {
                    moments -= 1;
                    std::thread::sleep(MOMENT);
                }
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }

    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => io::stderr().lock().write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_order_and_across_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (writer, opened) = Sink::start(Target::File(path.clone()), "test", |_| None).unwrap();
        opened.unwrap();
        writer.sink().line(b"one\n".to_vec());
        let moved = folder.path().join("log.1");
        std::fs::rename(&path, &moved).unwrap();
        writer.sink().reopen();
        writer.sink().line(b"two\n".to_vec());
        let sink = writer.sink().clone();
        writer.close();
        let both = std::fs::read_to_string(&moved).unwrap() + &std::fs::read_to_string(&path).unwrap();
        assert_eq!(both, "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(sink.lost(), (0, 0));
    }

    #[test]
    fn a_missing_folder_loses_lines_counts_them_and_heals() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/log");
        let (writer, opened) = Sink::start(Target::File(path.clone()), "test", |_| None).unwrap();
        assert!(opened.is_err());
        writer.sink().line(b"lost\n".to_vec());
        let sink = writer.sink().clone();
        while sink.lost() != (0, 1) {
            std::thread::yield_now();
        }
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        writer.sink().line(b"kept\n".to_vec());
        writer.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
    }

    #[test]
    fn losses_are_said_by_the_writer_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (writer, _) = Sink::start(Target::File(path.clone()), "test", |sink| {
            let (sink, mut said) = (sink.clone(), (0, 0));
            Some(Box::new(move |_| {
                let lost = sink.lost();
                let note = format!("lost {}\n", lost.0 - said.0);
                (lost != std::mem::replace(&mut said, lost)).then(|| note.into_bytes())
            }))
        })
        .unwrap();
        // More than the queue holds, faster than any disk.
        let sent = 40 * QUEUE as u64;
        for _ in 0..sent {
            writer.sink().line(b"line\n".to_vec());
        }
        let sink = writer.sink().clone();
        writer.close();
        let text = std::fs::read_to_string(&path).unwrap();
        let said: u64 = text.lines().filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok()).sum();
        let written = text.lines().filter(|line| *line == "line").count() as u64;
        assert_eq!((said, written + said), (sink.lost().0, sent));
    }

    #[test]
    fn a_note_that_could_not_be_written_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone/log");
        let (writer, _) = Sink::start(Target::File(path.clone()), "test", |sink| {
            let (sink, mut said) = (sink.clone(), 0);
            Some(Box::new(move |_| {
                let (_, lost) = sink.lost();
                let note = format!("lost {}\n", lost - said);
                (lost != std::mem::replace(&mut said, lost)).then(|| note.into_bytes())
            }))
        })
        .unwrap();
        let sink = writer.sink().clone();
        // The second finds the note of the first to be written, and neither can be.
        for lost in 1..=3 {
            sink.line(b"line\n".to_vec());
            while sink.lost() != (0, lost) {
                std::thread::yield_now();
            }
        }
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        writer.close();
        let text = std::fs::read_to_string(&path).unwrap();
        let said = text.lines().filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok());
        assert_eq!(said.sum::<u64>(), 3, "{text}");
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "whole\ncut").unwrap();
        let (writer, _) = Sink::start(Target::File(path.clone()), "test", |_| None).unwrap();
        writer.sink().line(b"next\n".to_vec());
        assert_eq!(writer.close(), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ncut\nnext\n");
    }

    #[test]
    fn a_pipe_without_a_reader_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (writer, _) = Sink::start(Target::File(path), "test", |_| None).unwrap();
        for _ in 0..100_000 {
            writer.sink().line(vec![b'x'; 100]);
        }
        let sink = writer.sink().clone();
        let given_up = writer.close();
        let (queue_full, not_written) = sink.lost();
        assert!(given_up + queue_full + not_written > 0, "a pipe does not hold 10 MB");
    }

    #[test]
    fn long_lines_take_no_more_memory_than_many() {
        const LINES: u64 = 20;
        const LONG: usize = QUEUE_BYTES / 4;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // A reader who does not read; without one the pipe could not be opened for writing.
        let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (writer, _) = Sink::start(Target::File(path), "test", |_| None).unwrap();
        for _ in 0..LINES {
            writer.sink().line(vec![b'x'; LONG]);
        }
        let (queue_full, _) = writer.sink().lost();
        // Five fill the queue, and one may be in the writer's hands.
        assert!(queue_full >= LINES - 6, "{queue_full}");
    }

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let (writer, _) = Sink::start(Target::File("/dev/full".into()), "test", |_| None).unwrap();
        for _ in 0..10 {
            writer.sink().line(b"line\n".to_vec());
        }
        let sink = writer.sink().clone();
        writer.close();
        assert_eq!(sink.lost(), (0, 10));
    }
}
