//! A place that lines go to: standard error or a file, written by a thread of its own.
//!
//! Promises: [`Sink::line`] never waits. A line that finds the queue full, or that the disk does not take,
//! is lost and counted, and the writer itself says so where it can write again; a full disk or a missing folder is tried again with every batch, so that lines flow
//! again as soon as they can. Every line that was taken is written before [`Sink::close`] returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that may wait. At 500 bytes each this is some 8 MB, and half a second of a very busy site.
const QUEUE: usize = 16 * 1024;
/// Bytes that are written at once.
const BATCH: usize = 128 * 1024;
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

#[derive(Debug, Default)]
struct Lost {
    queue_full: AtomicU64,
    not_written: AtomicU64,
    /// A reopening for which the queue had no room: done with the next batch.
    reopen: AtomicBool,
}

/// Words for lines that were lost, if some were since it was last asked. Asked by the writer before it
/// writes, so that the words cannot get lost in the queue that lost the lines.
pub type LossNote = Box<dyn FnMut() -> Option<Vec<u8>> + Send>;

/// The way to a place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Message>,
    lost: Arc<Lost>,
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
        let lost = Arc::new(Lost::default());
        let sink = Self { queue, lost: Arc::clone(&lost) };
        let mut output = Output { target, file: None, torn: false, loss_note: loss_note(&sink) };
        let opened = output.open();
        let counters = lost;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_lines(&messages, &mut output, &counters))?;
        Ok((Writer { sink, thread }, opened))
    }

    /// Takes a line, with its line feed. Never waits.
    pub fn line(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, after all lines that were taken before: it has been moved away.
    pub fn reopen(&self) {
        if self.queue.try_send(Message::Reopen).is_err() {
            self.lost.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// How many lines were lost so far: for a full queue, and for a disk that did not take them.
    pub fn lost(&self) -> (u64, u64) {
        (self.lost.queue_full.load(Ordering::Relaxed), self.lost.not_written.load(Ordering::Relaxed))
    }
}

impl Writer {
    /// The way to it.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Writes what is left, and ends. Gives up on a disk (or a reader) that does not answer.
    pub fn close(self) {
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

fn write_lines(messages: &Receiver<Message>, output: &mut Output, lost: &Lost) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        let mut lines = 0;
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                    if batch.len() < BATCH {
                        next = messages.try_recv().ok();
                    }
                }
                Message::Reopen => {
                    output.write(&mut batch, &mut lines, lost);
                    output.reopen();
                    next = messages.try_recv().ok();
                }
                Message::Close(done) => {
                    output.write(&mut batch, &mut lines, lost);
                    // Whoever waits may have given up.
                    let _ = done.send(());
                    return;
                }
            }
        }
        output.write(&mut batch, &mut lines, lost);
        if lost.reopen.swap(false, Ordering::Relaxed) {
            output.reopen();
        }
    }
}

struct Output {
    target: Target,
    file: Option<File>,
    loss_note: Option<LossNote>,
    /// Whether the last write ended within a line.
    torn: bool,
}

impl Output {
    fn open(&mut self) -> io::Result<()> {
        if let Target::File(path) = &self.target {
            let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Opens the file anew. Where that fails the old one is still good for lines.
    fn reopen(&mut self) {
        if self.open().is_ok() {
            self.torn = false;
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>, lines: &mut u64, lost: &Lost) {
        if let Some(note) = self.loss_note.as_mut().and_then(|note| note()) {
            batch.splice(0..0, note);
            *lines += 1;
        }
        if batch.is_empty() {
            return;
        }
        if let Err(written) = self.write_all(batch) {
            // Lines that got through whole are not lost.
            let through = batch.iter().take(written).filter(|b| **b == b'\n').count() as u64;
            lost.not_written.fetch_add(lines.saturating_sub(through), Ordering::Relaxed);
            self.torn = written > 0 && batch.get(written - 1) != Some(&b'\n');
            // Perhaps the file is on a disk that has been unmounted: open it anew next time.
            self.file = None;
        }
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
        while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
            match self.write_once(rest) {
                Ok(0) => return Err(written),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
            Some(Box::new(move || {
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
