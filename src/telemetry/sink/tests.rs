//! Lines in files: in order, across rotations, and counted where they are lost. Receivers have tests of their own, in
//! `tests/log_receivers.rs`.

use super::*;
use std::path::Path;

/// A line as it is to stand in the file.
fn line(text: &str) -> Entry {
    Entry::Decision(text.to_owned().into())
}

fn started(path: &Path) -> (Writer, io::Result<()>) {
    Sink::start(Target::File(path.to_owned()), Format::Json, "test", |_| None).unwrap()
}

#[test]
fn lines_are_written_in_order_and_across_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (writer, opened) = started(&path);
    opened.unwrap();
    writer.sink().take(line("one\n"));
    let moved = folder.path().join("log.1");
    std::fs::rename(&path, &moved).unwrap();
    writer.sink().reopen();
    writer.sink().take(line("two\n"));
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
    let (writer, opened) = started(&path);
    assert!(opened.is_err());
    writer.sink().take(line("lost\n"));
    let sink = writer.sink().clone();
    while sink.lost() != (0, 1) {
        std::thread::yield_now();
    }
    std::fs::create_dir(folder.path().join("gone")).unwrap();
    writer.sink().take(line("kept\n"));
    writer.close();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
}

#[test]
fn losses_are_said_by_the_writer_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (writer, _) = Sink::start(Target::File(path.clone()), Format::Json, "test", |sink| {
        let (sink, mut said) = (sink.clone(), (0, 0));
        Some(Box::new(move |_| {
            let lost = sink.lost();
            let note = format!("lost {}\n", lost.0 - said.0);
            (lost != std::mem::replace(&mut said, lost)).then(|| line(&note)).into_iter().collect()
        }))
    })
    .unwrap();
    // More than the queue holds, faster than any disk.
    let sent = 40 * QUEUE;
    for _ in 0..sent {
        writer.sink().take(line("line\n"));
    }
    let sink = writer.sink().clone();
    writer.close();
    let text = std::fs::read_to_string(&path).unwrap();
    let said: u64 = text.lines().filter_map(|line| line.strip_prefix("lost ")?.parse::<u64>().ok()).sum();
    let written = text.lines().filter(|line| *line == "line").count() as u64;
    assert_eq!((said, written + said), (sink.lost().0, sent));
}

/// A place that has no writer yet, and what starts one that lets decisions gather for so long.
fn gathering(path: &Path) -> (Sink, impl FnOnce(Duration) -> JoinHandle<()>) {
    let (mut output, _) = Output::new(Target::File(path.to_owned()), Format::Json, None);
    let (queue, messages) = channel();
    let state = Arc::new(State::default());
    let sink = Sink { queue, state: Arc::clone(&state) };
    let start = move |gather| {
        let shared = Arc::clone(&state);
        let writer = std::thread::spawn(move || write_entries(&messages, &mut output, &shared, gather));
        state.writer.set(writer.thread().clone()).unwrap();
        writer
    };
    (sink, start)
}

fn until_written(sink: &Sink, within: Duration) {
    let begun = Instant::now();
    while sink.state.waiting.load(Ordering::Relaxed) > 0 {
        assert!(begun.elapsed() < within, "it still waits");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_event_does_not_wait_for_decisions_to_gather() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (sink, start) = gathering(&path);
    let writer = start(Duration::from_hours(1));
    for round in 1..=3 {
        sink.take(line("decision\n"));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(sink.state.waiting.load(Ordering::Relaxed), 1, "it gathers");
        sink.take(Entry::now(tracing::Level::INFO, "event", Vec::new()));
        until_written(&sink, Duration::from_mins(1));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("decision").count(), round);
        assert_eq!(text.matches("event").count(), round);
    }
    drop(sink);
    writer.join().unwrap();
}

#[test]
fn a_writer_that_is_behind_does_not_wait_for_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (sink, start) = gathering(&path);
    let (lines, batches) = (1000, 100_u32);
    let text = "x".repeat(batches as usize * BATCH / lines) + "\n";
    for _ in 0..lines {
        sink.take(line(&text));
    }
    // Waiting once is what it may do; a hundred times is more than anybody would wait here.
    let gather = Duration::from_secs(2);
    let writer = start(gather);
    until_written(&sink, gather * batches / 2);
    drop(sink);
    writer.join().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), (text.len() * lines) as u64);
}

#[test]
fn a_line_that_was_cut_off_is_ended_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, "whole\ncut").unwrap();
    let (writer, _) = started(&path);
    writer.sink().take(line("next\n"));
    assert_eq!(writer.close(), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\ncut\nnext\n");
}

#[test]
fn a_pipe_without_a_reader_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (writer, _) = started(&path);
    for _ in 0..100_000 {
        writer.sink().take(line(&"x".repeat(100)));
    }
    let sink = writer.sink().clone();
    let given_up = writer.close();
    let (queue_full, not_written) = sink.lost();
    assert!(given_up + queue_full + not_written > 0, "a pipe does not hold 10 MB");
}

#[test]
fn a_full_disk_loses_lines_and_counts_them() {
    let (writer, _) = started(Path::new("/dev/full"));
    for _ in 0..10 {
        writer.sink().take(line("line\n"));
    }
    let sink = writer.sink().clone();
    writer.close();
    assert_eq!(sink.lost(), (0, 10));
}

#[test]
fn long_entries_do_not_make_the_queue_grow_without_an_end() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is there to take anything.
    let target =
        Target::Journal { socket: folder.path().join("away"), facility: syslog::Facility::default() };
    let (writer, _) = Sink::start(target, Format::Text, "test", |_| None).unwrap();
    let long = bytes::Bytes::from(vec![b' '; QUEUED_BYTES / 10]);
    for _ in 0..20 {
        writer.sink().take(Entry::Decision(long.clone()));
    }
    let (queue_full, _) = writer.sink().lost();
    // One or two are the writer's already.
    assert!((7..=9).contains(&queue_full), "{queue_full}");
    let sink = writer.sink().clone();
    assert_eq!(writer.close() + sink.lost().0, 20);
}

#[test]
fn a_note_that_could_not_be_written_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone/log");
    let (writer, _) = Sink::start(Target::File(path.clone()), Format::Json, "test", |sink| {
        let (sink, mut said) = (sink.clone(), 0);
        Some(Box::new(move |_| {
            let (_, lost) = sink.lost();
            let note = line(&format!("lost {}\n", lost - said));
            (lost != std::mem::replace(&mut said, lost)).then_some(note).into_iter().collect()
        }))
    })
    .unwrap();
    let sink = writer.sink().clone();
    // The second finds the note of the first to be written, and neither can be.
    for lost in 1..=3 {
        sink.take(line("line\n"));
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
