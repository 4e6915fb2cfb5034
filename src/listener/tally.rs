//! What became of connections at the listeners of one kind, in numbers that anybody may read at any time.
//!
//! Promises: counting costs an atomic addition. A connection that has ended, however it did, is live no more.
//! Must not: know who reads the numbers.

use super::ConnectionError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::watch;

/// The numbers, as they grow.
#[derive(Debug, Default)]
pub struct Tally {
    accepting: AtomicUsize,
    accepted: AtomicU64,
    live: AtomicU64,
    most: AtomicU64,
    waited: AtomicU64,
    turned_away: AtomicU64,
    accept_errors: AtomicU64,
    cut: AtomicU64,
    idle: AtomicU64,
    protocol: AtomicU64,
}

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// How many may be served at once.
    pub limit: u64,
    /// Connections that are served now.
    pub live: u64,
    /// The most that there were at once.
    pub most: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Of these, those that found all in use, and had to wait for their turn.
    pub waited: u64,
    /// Of these, those that found all in use, and were closed.
    pub turned_away: u64,
    /// How often the system would not accept one.
    pub accept_errors: u64,
    /// Connections that were cut by the other side, or by the system.
    pub cut: u64,
    /// Connections that were closed after silence.
    pub idle: u64,
    /// Connections that were closed for what was said on them.
    pub protocol: u64,
}

impl Tally {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A listener begins.
    pub(super) fn accepting(self: &Arc<Self>) -> Accepting {
        self.accepting.fetch_add(1, Ordering::Relaxed);
        Accepting { tally: Arc::clone(self), fails: false }
    }

    pub(super) fn waits(&self) {
        Self::add(&self.waited);
    }

    pub(super) fn turned_away(&self) {
        Self::add(&self.turned_away);
    }

    /// A connection is served from now on, until what is given back is dropped.
    pub(super) fn begins(self: &Arc<Self>) -> Live {
        let live = self.live.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(live, Ordering::Relaxed);
        Live(Arc::clone(self))
    }

    /// A connection ended before its time.
    pub fn failed<P: std::error::Error>(&self, error: &ConnectionError<P>) {
        Self::add(match error {
            ConnectionError::Io(_) => &self.cut,
            ConnectionError::Idle(_) => &self.idle,
            ConnectionError::Protocol(_) => &self.protocol,
        });
    }
}

/// One listener at work.
#[derive(Debug)]
pub(super) struct Accepting {
    tally: Arc<Tally>,
    fails: bool,
}

impl Accepting {
    /// The system would not accept a connection: there is a pause.
    pub(super) fn failed(&mut self) {
        Tally::add(&self.tally.accept_errors);
        self.fails = true;
        self.tally.accepting.fetch_sub(1, Ordering::Relaxed);
    }

    /// The pause is over. If it fails again, the next one begins at once.
    pub(super) fn tries_again(&mut self) {
        self.fails = false;
        self.tally.accepting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn accepted(&self) {
        Tally::add(&self.tally.accepted);
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        if !self.fails {
            self.tally.accepting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One connection that is served.
#[derive(Debug)]
pub(super) struct Live(Arc<Tally>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sees the numbers of the listeners of one kind, and whether they are to end.
#[derive(Clone, Debug)]
pub struct View {
    tally: Arc<Tally>,
    limit: usize,
    drain: watch::Receiver<bool>,
}

impl View {
    pub(super) fn new(tally: Arc<Tally>, limit: usize, drain: watch::Receiver<bool>) -> Self {
        Self { tally, limit, drain }
    }

    /// The numbers now.
    pub fn connections(&self) -> Connections {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = &self.tally;
        Connections {
            limit: self.limit as u64,
            live: get(&tally.live),
            most: get(&tally.most),
            accepted: get(&tally.accepted),
            waited: get(&tally.waited),
            turned_away: get(&tally.turned_away),
            accept_errors: get(&tally.accept_errors),
            cut: get(&tally.cut),
            idle: get(&tally.idle),
            protocol: get(&tally.protocol),
        }
    }

    /// How many of so many listeners do not accept connections.
    pub fn not_accepting(&self, of: usize) -> usize {
        of.saturating_sub(self.tally.accepting.load(Ordering::Relaxed))
    }

    /// Whether the listeners are to end.
    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }
}
