//! The writer's bounds: of its queue, and of what it keeps in memory. What becomes of its file is seen with the real
//! daemon (`tests/evidence.rs`).

use super::*;
use crate::policy::record::Record;
use std::sync::mpsc::channel;

/// A decision on the nth stranger.
fn observed(n: usize) -> Observed {
    let [_, b, c, d] = u32::try_from(n).unwrap().to_be_bytes();
    let line = format!(
        r#"{{"ts":"2026-11-22T10:00:00Z","client_addr":"{}.{c}.{d}.1","cipher_bits":0,"verdict":"no-rule","disposition":"accept"}}"#,
        11 + b
    );
    let record: Record<'_> = serde_json::from_str(&line).unwrap();
    Observed::of_record(&record).unwrap()
}

#[test]
fn a_full_queue_holds_nobody_up_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    // The writer stands still at the policy until it is let go.
    let (asked, is_asked) = channel();
    let (let_go, wait) = channel::<()>();
    let policy = move || {
        let _ = asked.send(());
        let _ = wait.recv();
        Arc::new(Policy::default())
    };
    let writer = Writer::start(folder.path(), Settings::default(), policy).unwrap();
    is_asked.recv().unwrap();
    let evidence = writer.evidence().clone();
    let one = observed(1);
    for _ in 0..QUEUE + 100 {
        evidence.take(one.clone());
    }
    let full = Counters { queue_full: 100, queue: QUEUE as u64, ..Counters::default() };
    assert_eq!(evidence.counters(), full);
    drop(let_go);
    writer.close();
    let counters = evidence.counters();
    assert_eq!((counters.written, counters.queue_full, counters.not_written), (QUEUE as u64, 100, 0));
    assert_eq!((counters.queue, counters.unwritten_rows), (0, 0));
    let stats = Store::open_read_only(&folder.path().join(FILE_NAME)).unwrap().stats().unwrap();
    assert_eq!(stats.decisions, QUEUE as u64);
    // Whoever still has a way to it is not held up, either.
    evidence.take(one);
    assert_eq!(evidence.counters().queue_full, 101);
}

/// A writer whose thread is ours.
fn worker(path: PathBuf, settings: Settings) -> Worker {
    let policy = Box::new(|| Arc::new(Policy::default()));
    Worker::new(path, settings, policy, Arc::new(State::default()))
}

#[test]
fn a_disk_that_damages_every_file_is_not_filled_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut worker = worker(path.clone(), Settings::default());
    for round in 0..3u64 {
        // Closed: what is only in the WAL would mend it.
        worker.file = None;
        fs::write(&path, [0x5a; 9000]).unwrap();
        worker.take(observed(1));
        worker.batch.count(&mut worker.rollup);
        // The first is moved aside; then evidence is kept in memory.
        assert_eq!(worker.flush(), round == 0);
        assert_eq!(worker.rollup.decisions(), round);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    fs::remove_file(&path).unwrap();
    assert!(worker.flush());
    assert_eq!(Store::open_read_only(&path).unwrap().stats().unwrap().decisions, 2);
}

#[test]
fn what_sqlite_has_beside_the_file_may_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    // Beside what it points to.
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(FILE_NAME, &link).unwrap();
    let mut worker = worker(link, Settings::default());
    for round in 1..=3u64 {
        worker.take(observed(1));
        worker.batch.count(&mut worker.rollup);
        assert!(worker.flush());
        assert_eq!(Store::open_read_only(&path).unwrap().stats().unwrap().decisions, round);
        assert!(beside(&path).iter().all(|file| file.exists()));
        for file in beside(&path) {
            fs::remove_file(file).unwrap();
        }
    }
    drop(worker);
    assert_eq!(Store::open_read_only(&path).unwrap().stats().unwrap().decisions, 3);
}

#[test]
fn what_cannot_be_written_is_kept_up_to_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken").join(FILE_NAME);
    fs::write(folder.path().join("taken"), "").unwrap();
    let settings = Settings { max_peers: 1_000_000, ..Settings::default() };
    let mut worker = worker(path.clone(), settings);
    let state = Arc::clone(&worker.state);
    // Two rows each: its network's, and its own.
    let (room, more) = (MOST_ROWS / 2, 500);
    for n in 0..room + more {
        worker.take(observed(n));
        worker.batch.count(&mut worker.rollup);
        if n % 20_000 == 0 {
            assert!(!worker.flush());
        }
    }
    assert_eq!(worker.rollup.len(), MOST_ROWS);
    assert_eq!(state.not_written.load(Ordering::Relaxed), more as u64);
    fs::remove_file(folder.path().join("taken")).unwrap();
    assert!(worker.flush());
    assert_eq!((worker.rollup.len(), state.written.load(Ordering::Relaxed)), (0, room as u64));
    let found = Store::open_read_only(&path).unwrap().stats().unwrap();
    assert_eq!((found.decisions, found.hosts), (room as u64, room as u64));
}
