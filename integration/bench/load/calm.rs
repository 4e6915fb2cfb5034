//! The real daemon while its policy is edited: how soon an edit is in force, and whether those who are answered meanwhile
//! notice.

use super::files::{self, Kind};
use super::support::daemon::{DAEMON_FILE, Daemon, Home};
use super::support::mta::{Mta, plain};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Sessions a second, by all clients together.
const SESSIONS: u32 = 2_000;
const CLIENTS: u32 = 2;
const EDITS: usize = 8;
/// From the end of one load to the next edit.
const BETWEEN: Duration = Duration::from_millis(500);

/// How long a MAIL waited for its answer.
struct Waits(Vec<Duration>);

impl Waits {
    fn share(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)].as_secs_f64() * 1e3
    }
}

pub(crate) fn measure(folder: &Path, sizes: &[usize]) -> Vec<Value> {
    sizes.iter().map(|keys| of_size(folder, *keys)).collect()
}

fn of_size(folder: &Path, keys: usize) -> Value {
    let home = Home::with(DAEMON_FILE, "");
    let write = |keys| {
        let policy = Kind::Lists.write(folder, keys);
        std::fs::copy(files::list(folder), home.path("next")).unwrap();
        policy
    };
    // Moved there as a whole, as a deployment does it.
    let put = || std::fs::rename(home.path("next"), home.path("list.txt")).unwrap();
    std::fs::copy(write(keys), home.path("policy.toml")).unwrap();
    put();
    let begun = Instant::now();
    let daemon = home.start();
    let start = begun.elapsed().as_secs_f64() * 1e3;
    let over = AtomicBool::new(false);
    // What is written for an edit is written without one too: it disturbs as well.
    let next = |edit: usize| write(keys - (edit + 1) % 2);
    let mut quiet = while_asked(&home, &over, || {
        for edit in 0..EDITS {
            next(edit);
            std::thread::sleep(BETWEEN);
        }
    });
    let mut edits = Vec::new();
    let mut loading = while_asked(&home, &over, || {
        for edit in 0..EDITS {
            next(edit);
            edits.push(in_force(&daemon, put));
            std::thread::sleep(BETWEEN);
        }
    });
    daemon.stop();
    edits.sort_by(f64::total_cmp);
    let edit = edits[EDITS / 2];
    quiet.0.sort_unstable();
    loading.0.sort_unstable();
    println!(
        "daemon with {keys:>8} keys: listens after {start:.0} ms; an edit is in force after {edit:.0} ms (50 of them settling); \
         MAIL at {SESSIONS} sessions/s: median {:.3} ms, p99 {:.3} ms; while it loads {:.3} and {:.3} ms",
        quiet.share(50),
        quiet.share(99),
        loading.share(50),
        loading.share(99)
    );
    json!({
        "keys": keys, "start_ms": start, "edit_ms": edit, "sessions": quiet.0.len() + loading.0.len(),
        "quiet_p50_ms": quiet.share(50), "quiet_p99_ms": quiet.share(99),
        "loading_p50_ms": loading.share(50), "loading_p99_ms": loading.share(99),
    })
}

/// From an edit to the line that says that it is in force.
fn in_force(daemon: &Daemon<'_>, edit: impl FnOnce()) -> f64 {
    let mark = daemon.mark();
    let begun = Instant::now();
    edit();
    daemon.wait_log_since(mark, "policy in force");
    begun.elapsed().as_secs_f64() * 1e3
}

/// What those wait who are answered while something is done.
fn while_asked(home: &Home, over: &AtomicBool, work: impl FnOnce()) -> Waits {
    over.store(false, Ordering::Relaxed);
    let socket = home.path("m.sock");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let socket = &socket;
                scope.spawn(move || {
                    let mut waits = Vec::new();
                    let begun = Instant::now();
                    for session in 0.. {
                        let due = begun + Duration::from_secs(1) * (session * CLIENTS + client) / SESSIONS;
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        waits.push(session_of(socket));
                    }
                    waits
                })
            })
            .collect();
        work();
        over.store(true, Ordering::Relaxed);
        Waits(clients.into_iter().flat_map(|client| client.join().unwrap()).collect())
    })
}

/// A session that nothing is to be said of; how long its MAIL took.
fn session_of(socket: &Path) -> Duration {
    let mut mta = Mta::unix(socket).unwrap();
    mta.negotiate();
    mta.macros(&plain("Q"));
    let asked = Instant::now();
    let answer = mta.mail("<anna@nobody.invalid>");
    let waited = asked.elapsed();
    assert_eq!(answer, "accept");
    mta.quit();
    waited
}
