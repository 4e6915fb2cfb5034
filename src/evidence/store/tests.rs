//! Files: what is refused and why, what stays and what goes, and a disk that is full.

use super::*;
use crate::evidence::rollup::{Counts, Host, KnownBy, Peer, Row, Session, Word};

fn row(rule: &str) -> Row {
    let word = |text: &str| Word::Owned(text.to_owned());
    Row {
        direction: "inbound".into(),
        side: "client".into(),
        rule: word(rule),
        key: "*".into(),
        version: "TLSv1.3".into(),
        cipher: "X".into(),
        bits: None,
        verify: "NOT".into(),
        verdict: "unknown".into(),
        disposition: "accept".into(),
        modes: ["unknown".into(), "".into(), "".into()],
        decided: true,
    }
}

/// Each of these days has one decision of each of so many networks, and each month that they lie in one host.
fn rollup(days: &[&str], networks: u32) -> Rollup {
    let counts = Counts { count: 1, first: 7, last: 9 };
    let mut rollup = Rollup::new(1_000_000);
    for day in days {
        let mut bucket = Bucket::new(1_000_000);
        for n in 0..networks {
            let network = format!("192.{}.{}.0/24", n / 256, n % 256);
            let peer = Peer { known_by: KnownBy::Nothing, domain: String::new(), network };
            bucket.add(peer, row("all"), counts);
        }
        rollup.add_day((*day).to_owned(), bucket);
        let mut bucket = Bucket::new(1_000_000);
        let host = Host {
            known_by: KnownBy::Host,
            domain: "x.example".to_owned(),
            host: "mx.x.example".to_owned(),
            address: "192.0.2.7".to_owned(),
        };
        let session = Session {
            direction: "inbound".into(),
            version: "".into(),
            cipher: "".into(),
            bits: Some(0),
            verify: "".into(),
        };
        bucket.add(host, session, counts);
        rollup.add_month(day[..7].to_owned(), bucket);
        rollup.add_standing(Standing {
            day: (*day).to_owned(),
            rule: "all".to_owned(),
            mode: "observe".into(),
            requirement: "verify".to_owned(),
        });
    }
    rollup
}

fn texts(store: &Store, sql: &str) -> Vec<String> {
    let mut statement = store.connection().prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn what_is_older_than_it_is_kept_for_is_forgotten() {
    let mut store = Store::memory().unwrap();
    let days = ["2026-05-25", "2026-05-26", "2026-05-27", "2026-06-01", "2026-11-22"];
    store.add(&rollup(&days, 2)).unwrap();
    let today = Day::of_date(jiff::civil::date(2026, 11, 22));
    // 2026-05-26 is 180 days before.
    assert_eq!(store.prune(today, 180).unwrap(), 3);
    for (table, left) in [("decision_counts", &days[1..]), ("standing", &days[1..])] {
        assert_eq!(texts(&store, &format!("SELECT DISTINCT day FROM {table} ORDER BY day")), left);
    }
    assert_eq!(texts(&store, "SELECT month FROM host_counts"), ["2026-05", "2026-06", "2026-11"]);
    assert_eq!(
        texts(&store, "SELECT period FROM bounds"),
        ["2026-05", "2026-05-26", "2026-05-27", "2026-06", "2026-06-01", "2026-11", "2026-11-22"]
    );
    assert_eq!(store.prune(today, 180).unwrap(), 0);
    assert_eq!(store.prune(Day::of_date(jiff::civil::date(2027, 6, 1)), 180).unwrap(), 4 * 2 + 3 + 4);
    assert_eq!(texts(&store, "SELECT count(*) || '' FROM decision_counts"), ["0"]);
}

#[test]
fn a_full_disk_takes_all_or_nothing_and_what_was_kept_can_be_added_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut store = Store::open(&path).unwrap();
    store.add(&rollup(&["2026-11-22"], 3)).unwrap();
    let before = store.rollup().unwrap();
    let pages: i64 = store.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection().pragma_update(None, "max_page_count", pages + 2).unwrap();
    let large = rollup(&["2026-11-22", "2026-11-23"], 2000);
    let full = store.add(&large).unwrap_err();
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    assert_eq!(full.to_string(), format!("{}: the disk is full: make room", path.display()));
    assert_eq!(store.rollup().unwrap(), before);
    store.connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    store.add(&large).unwrap();
    let mut both = before;
    both.merge(large);
    assert_eq!(store.rollup().unwrap(), both);
    // And space comes back with what is forgotten.
    let large = std::fs::metadata(&path).map(|_| store.stats().unwrap().bytes).unwrap();
    store.prune(Day::of_date(jiff::civil::date(2027, 11, 22)), 10).unwrap();
    assert!(store.stats().unwrap().bytes < large / 2);
}

#[test]
fn what_is_not_ours_or_not_of_this_version_is_refused_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd ?#%20 näme.db");
    let made = |sql: &str| {
        // Each begins anew.
        let _ = std::fs::remove_file(&path);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        (Store::open(&path).map(drop), Store::open_read_only(&path).map(drop))
    };
    let words = |result: Result<(), StoreError>| result.unwrap_err().to_string();

    assert!(words(Store::open_read_only(&path).map(drop)).contains("there is no evidence file"));
    assert!(matches!(Store::open(folder.path()).map(drop), Err(StoreError::CannotOpen { .. })));
    let (write, read) = made("CREATE TABLE theirs (x)");
    for refused in [write, read] {
        assert!(words(refused).contains("not encr-milter's evidence: give another file"));
    }
    let (write, read) = made("PRAGMA application_id = 0x454e4352; PRAGMA user_version = 2");
    for refused in [write, read] {
        assert!(
            words(refused).contains("its format is 2, and this version of encr-milter knows 1 at the most")
        );
    }
    // One that was begun and not finished is finished by who may write.
    let (write, _) = made("PRAGMA application_id = 0x454e4352");
    assert!(write.is_ok());
    assert!(Store::open_read_only(&path).is_ok());
    std::fs::write(&path, b"").unwrap();
    assert!(words(Store::open_read_only(&path).map(drop)).contains("an empty file"));
}

#[test]
fn reading_changes_nothing_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd ?#%20 näme.db");
    let rollup = rollup(&["2026-11-22"], 3);
    let mut store = Store::open(&path).unwrap();
    store.add(&rollup).unwrap();
    // While it is in use.
    let reading = Store::open_read_only(&path).unwrap();
    assert_eq!(reading.rollup().unwrap(), rollup);
    let refused = reading.connection().execute("DELETE FROM standing", []).unwrap_err();
    assert!(matches!(reading.error(refused), StoreError::NotWritable { .. }));
    store.add(&rollup).unwrap();
    drop(reading);
    store.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let reading = Store::open_read_only(&path).unwrap();
    let mut twice = rollup.clone();
    twice.merge(rollup);
    assert_eq!(reading.rollup().unwrap(), twice);
    drop(reading);
    // Where nothing can be laid beside it.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let reading = Store::connect(&path, immutable_uri(&path), flags, WAIT).and_then(Store::known).unwrap();
    assert_eq!(reading.rollup().unwrap(), twice);
    drop(reading);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_who_write_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    // Both find no file.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut store = Store::open(&path).unwrap();
                for _ in 0..5 {
                    store.add(&rollup(&["2026-11-22"], 3)).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(Store::open_read_only(&path).unwrap().stats().unwrap().decisions, 4 * 5 * 3);
}

#[test]
fn a_lock_that_stays_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let mut store = Store::open_within(&path, Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = store.add(&rollup(&["2026-11-22"], 1)).unwrap_err();
    assert!(matches!(locked, StoreError::Locked { .. }), "{locked:?}");
    assert!(locked.to_string().contains("try again when that has ended"));
    other.execute_batch("ROLLBACK").unwrap();
    store.add(&rollup(&["2026-11-22"], 1)).unwrap();
}
