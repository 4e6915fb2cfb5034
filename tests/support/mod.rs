//! What the tests share: an MTA of our own on a raw socket, the milter in process, and the real binary.
//!
//! Promises: nothing here sleeps and hopes; what is waited for has a deadline ([`until`]), and a deadline
//! that passes says what was waited for. Every folder, process and socket goes away with its owner. No port
//! and no path is fixed, so that all tests run at once.
//!
//! Must not: judge. What is right stands in the tests.

// Each test crate takes what it needs; and a helper of a test may stop at once, as a test may.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub(crate) mod asker;
pub(crate) mod daemon;
pub(crate) mod data;
pub(crate) mod evidence;
pub(crate) mod html;
pub(crate) mod http;
pub(crate) mod in_process;
pub(crate) mod manager;
pub(crate) mod metrics;
pub(crate) mod mta;
pub(crate) mod random;
pub(crate) mod smtp_server;
pub(crate) mod tree;

use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::load::{Loaded, ReadError, Request, Store, load};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that the program does by itself. Only ever reached by a failure, so it is
/// generous: the machine may be busy with other builds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The day of the tests that run in process: 2026-11-18.
pub(crate) const NOW: jiff::Timestamp = jiff::Timestamp::constant(1_795_000_000, 0);

/// Waits until `condition` gives something; fails with `what` when the deadline has passed.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {} s for: {what}", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A TCP port of the loopback that nobody has. Outside the range from which the system itself gives ports to
/// clients, and never given twice in a process, so that no test takes another's between this and its use.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    (0..10_000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000) % 10_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no free port")
}

/// Files in memory.
pub(crate) struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Store for Memory {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Ok(vec![pattern.to_path_buf()])
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let bytes = self.0.get(path).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        if bytes.len() as u64 > limit { Err(ReadError::TooLarge) } else { Ok(bytes.clone()) }
    }
}

/// Loads a policy of one file from memory.
pub(crate) fn load_text(text: &[u8]) -> Loaded {
    let path = PathBuf::from("policy.toml");
    let request = Request { patterns: vec![path.clone()], max_size: 1 << 20 };
    let mut memory = Memory(BTreeMap::from([(path, text.to_vec())]));
    load(&request, &mut memory, Day::of_unix_seconds(NOW.as_second()))
}

/// Compiles a policy that must be sound. Its `version` is put before it.
pub(crate) fn policy(text: &str) -> Policy {
    let loaded = load_text(format!("version = 1\n{text}").as_bytes());
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    loaded.policy.unwrap_or_else(|| panic!("the test's policy is broken:\n{shown}\n{text}"))
}
