//! The threads that answer MTAs: each a runtime of its own, so that what one connection says is read, judged and answered
//! without waking another thread.
//!
//! Promises: while connections are few, one thread has them all, which is what costs least; beyond that each new one goes to
//! the thread that has fewest. A connection stays where it began.
//!
//! Must not: do anything else, such as answering who watches: what takes a millisecond there would be felt by mail.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

/// So many connections a thread takes before the next one begins: docs/performance.md says how that was found.
const FEW: usize = 64;
/// One thread answers some 30,000 sessions a second: more than this helps nobody.
const MOST_THREADS: usize = 16;
/// How long threads have to end, once told to.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The way to the threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Threads(Arc<[Thread]>);

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    connections: AtomicUsize,
}

/// Ends the threads.
#[derive(Debug)]
pub struct End {
    tell: Vec<oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl Threads {
    /// Starts one for each processor but one, which the MTA has: its part in a message takes a hundred times ours.
    pub fn start() -> io::Result<(Self, End)> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (ends, ended) = sync_channel(0);
        let (mut threads, mut tell) = (Vec::new(), Vec::new());
        for _ in 0..processors.saturating_sub(1).clamp(1, MOST_THREADS) {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
            let (told, end) = oneshot::channel();
            threads.push(Thread { runtime: runtime.handle().clone(), connections: AtomicUsize::new(0) });
            tell.push(told);
            let ends = ends.clone();
            std::thread::Builder::new().name("milter".into()).spawn(move || {
                // Whoever would tell may be gone: that is an end as well.
                let _ = runtime.block_on(end);
                // Connections that outlasted the drain are cut here.
                drop(runtime);
                drop(ends);
            })?;
        }
        Ok((Self(threads.into()), End { tell, ended }))
    }

    /// The one that accepts.
    fn first(&self) -> Option<&Thread> {
        self.0.first()
    }

    /// What is made within belongs to the thread that accepts.
    pub fn enter(&self) -> Option<EnterGuard<'_>> {
        self.first().map(|first| first.runtime.enter())
    }

    /// Runs something on the thread that accepts.
    pub fn accepting(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(first) = self.first() {
            first.runtime.spawn(task);
        }
    }

    /// A place for one more connection.
    pub(super) fn place(&self) -> Option<Place> {
        let each = || self.0.iter().map(|thread| thread.connections.load(Ordering::Relaxed)).enumerate();
        let has_room = each().find(|(_, connections)| *connections < FEW);
        let (thread, _) = has_room.or_else(|| each().min_by_key(|(_, connections)| *connections))?;
        self.0.get(thread)?.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { threads: Arc::clone(&self.0), thread })
    }

    /// Resolves when each of them has done something: none hangs.
    pub async fn alive(&self) {
        for thread in self.0.iter() {
            // Neither can it panic, nor is it cancelled but with the runtime.
            let _ = thread.runtime.spawn(async {}).await;
        }
    }
}

impl End {
    /// Ends the threads, and cuts the connections that are left. Not waited for longer than a second.
    pub fn end(self) {
        drop(self.tell);
        // Nobody sends: it is over when all have let go.
        let _ = self.ended.recv_timeout(END_WITHIN);
    }
}

/// One connection's place on a thread, as long as it is held.
#[derive(Debug)]
pub(super) struct Place {
    threads: Arc<[Thread]>,
    thread: usize,
}

impl Place {
    /// Whether it is on the thread that accepts, whose reactor the connection has already.
    pub(super) fn is_here(&self) -> bool {
        self.thread == 0
    }

    /// The thread's runtime.
    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.threads.get(self.thread).map(|thread| &thread.runtime)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(thread) = self.threads.get(self.thread) {
            thread.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(places: &[Place], thread: usize) -> usize {
        places.iter().filter(|place| place.thread == thread).count()
    }

    #[test]
    fn few_connections_share_a_thread_and_many_are_spread_evenly() {
        let runtimes: Vec<_> = (0..2).map(|_| Builder::new_current_thread().build().unwrap()).collect();
        let threads = Threads(
            runtimes
                .iter()
                .map(|runtime| Thread { runtime: runtime.handle().clone(), connections: AtomicUsize::new(0) })
                .collect(),
        );
        let mut places: Vec<Place> = std::iter::from_fn(|| threads.place()).take(FEW).collect();
        assert_eq!((on(&places, 0), on(&places, 1)), (FEW, 0));
        places.extend(std::iter::from_fn(|| threads.place()).take(3 * FEW));
        assert_eq!((on(&places, 0), on(&places, 1)), (2 * FEW, 2 * FEW));
        // Those that are left, and those that come, stay few on as few threads as can be.
        places.truncate(1);
        places.push(threads.place().unwrap());
        assert_eq!(on(&places, 0), 2);
    }

    #[test]
    fn all_are_alive_and_end_when_told() {
        let (threads, end) = Threads::start().unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(threads.alive());
        let (held, released) = std::sync::mpsc::channel::<()>();
        threads.accepting(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        runtime.block_on(threads.alive());
        end.end();
        let gone = released.recv_timeout(Duration::from_secs(10));
        assert_eq!(gone, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "with all its tasks");
    }
}
