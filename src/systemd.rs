//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, a line of status, and signs of life.
//!
//! Promises: telling never holds mail up: a thread of its own speaks to the manager, which may be busy or gone, and
//! what finds its queue full is dropped. Without a manager (`NOTIFY_SOCKET`) nothing is done at all. Work that may be
//! long (a policy of millions of keys) asks for more time while it goes on, but not for ever.
//!
//! Must not: send a sign of life that does not come by way of the threads that answer mail ([`signs_of_life`]).

use sd_notify::NotifyState;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// What may wait to be told: more comes only where the manager does not listen.
const QUEUE: usize = 64;
/// While something is under way the manager is asked so often for so much more time.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTEND_BY: Duration = Duration::from_secs(30);
/// What takes longer than this hangs, on a file system that does not answer say: the manager's own time-out then ends it.
const LONGEST_WORK: Duration = Duration::from_mins(10);
/// What a stop needs beside the drain: writing logs and evidence.
const CLOSING: Duration = Duration::from_secs(20);
/// How long the end of the process waits for the last words to be said.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Message {
    Working,
    Reloading,
    Ready,
    Status(String),
    Alive,
    Stopping(Duration),
    Close(SyncSender<()>),
}

/// The way to tell the manager. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Manager(Option<SyncSender<Message>>);

/// The thread that tells.
#[derive(Debug)]
pub struct Teller {
    manager: Manager,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    fn tell(&self, message: Message) {
        if let Some(queue) = &self.0 {
            // A queue that is full belongs to a manager that does not listen.
            let _ = queue.try_send(message);
        }
    }

    /// The policy is being loaded.
    pub fn reloading(&self) {
        self.tell(Message::Reloading);
    }

    /// All listeners accept, and a policy is in force: at the start, and again after [`Self::reloading`].
    pub fn ready(&self) {
        self.tell(Message::Ready);
    }

    /// One line on how it goes, for `systemctl status`.
    pub fn status(&self, line: String) {
        self.tell(Message::Status(line));
    }

    /// The daemon stops, and may take so long for its drain.
    pub fn stopping(&self, drain: Duration) {
        self.tell(Message::Stopping(drain));
    }
}

impl Teller {
    /// Begins to tell, if there is a manager: first that the start is under way.
    pub fn start() -> std::io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|path| path.is_empty()) {
            return Ok(Self { manager: Manager::default(), thread: None });
        }
        let (queue, messages) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("systemd".into()).spawn(move || tell(&messages))?;
        let manager = Manager(Some(queue));
        manager.tell(Message::Working);
        Ok(Self { manager, thread: Some(thread) })
    }

    /// The way to it.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Tells what is left, and ends; gives up on a manager that does not listen.
    pub fn close(self) {
        let (Some(thread), Some(queue)) = (self.thread, &self.manager.0) else { return };
        let (done, wait) = sync_channel(1);
        if queue.try_send(Message::Close(done)).is_ok() && wait.recv_timeout(LAST_WORDS).is_ok() {
            // It has answered, so it has ended.
            let _ = thread.join();
        }
    }
}

fn tell(messages: &Receiver<Message>) {
    let mut voice = Voice::default();
    // Since when something is under way.
    let mut working: Option<Instant> = None;
    let mut stopping = false;
    loop {
        let message = match working {
            Some(since) => match messages.recv_timeout(EXTEND_EVERY) {
                Err(RecvTimeoutError::Timeout) => {
                    if since.elapsed() >= LONGEST_WORK {
                        working = None;
                    } else {
                        voice.say(&[extend(EXTEND_BY)]);
                    }
                    continue;
                }
                other => other.ok(),
            },
            None => messages.recv().ok(),
        };
        match message {
            // Who stops is neither reloading nor ready again.
            Some(Message::Reloading | Message::Ready) if stopping => {}
            Some(Message::Working) => {
                working = Some(Instant::now());
                voice.say(&[extend(EXTEND_BY)]);
            }
            Some(Message::Reloading) => {
                working = Some(Instant::now());
                // The time is for systemd from 253 on, which takes a reload without it for a fault.
                match NotifyState::monotonic_usec_now() {
                    Ok(now) => voice.say(&[NotifyState::Reloading, now, extend(EXTEND_BY)]),
                    Err(_) => voice.say(&[NotifyState::Reloading, extend(EXTEND_BY)]),
                }
            }
            Some(Message::Ready) => {
                working = None;
                voice.say(&[NotifyState::Ready]);
            }
            Some(Message::Status(line)) => voice.say(&[NotifyState::Status(&line)]),
            Some(Message::Alive) => voice.say(&[NotifyState::Watchdog]),
            Some(Message::Stopping(drain)) => {
                (working, stopping) = (None, true);
                voice.say(&[NotifyState::Stopping, extend(drain.saturating_add(CLOSING))]);
            }
            Some(Message::Close(done)) => {
                // Whoever waits may have given up.
                let _ = done.send(());
                return;
            }
            None => return,
        }
    }
}

fn extend(by: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))
}

/// Says it, and says in the log when that begins to fail.
#[derive(Default)]
struct Voice {
    failing: bool,
}

impl Voice {
    fn say(&mut self, state: &[NotifyState<'_>]) {
        match sd_notify::notify(state) {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => tracing::debug!(%error, "cannot tell systemd"),
            Err(error) => {
                self.failing = true;
                tracing::warn!(%error, "cannot tell systemd how it goes (NOTIFY_SOCKET): it may take the daemon for stuck");
            }
        }
    }
}

/// How often the manager wants a sign of life, if it does (`WatchdogSec=`).
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|within| !within.is_zero())
}

/// Sends signs of life, two within the time after which the manager would take the daemon for stuck, each when `alive` says
/// that every thread that answers mail has done something: none comes where one of them hangs.
pub async fn signs_of_life<F: Future<Output = ()>>(
    manager: Manager,
    within: Duration,
    alive: impl Fn() -> F,
) {
    let mut interval = tokio::time::interval((within / 2).max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        alive().await;
        manager.tell(Message::Alive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_of_life_comes_while_a_thread_hangs() {
        let (queue, messages) = sync_channel(QUEUE);
        let started = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let (runtime, telling) = (started().unwrap(), started().unwrap());
        let within = Duration::from_millis(40);
        let answers = runtime.handle().clone();
        let alive = move || {
            let done = answers.spawn(async {});
            async move { done.await.unwrap() }
        };
        telling.spawn(signs_of_life(Manager(Some(queue)), within, alive));
        for _ in 0..3 {
            assert!(matches!(messages.recv_timeout(Duration::from_secs(30)), Ok(Message::Alive)));
        }
        // Its one thread hangs in something that does not end.
        let (release, hang) = sync_channel::<()>(0);
        let (hangs, hanging) = sync_channel::<()>(0);
        runtime.spawn(async move {
            hangs.send(()).unwrap();
            hang.recv().unwrap();
        });
        hanging.recv().unwrap();
        while messages.try_recv().is_ok() {}
        assert_eq!(messages.recv_timeout(within * 10).err(), Some(RecvTimeoutError::Timeout));
        release.send(()).unwrap();
        assert!(messages.recv_timeout(Duration::from_secs(30)).is_ok());
    }

    #[test]
    fn what_a_manager_does_not_listen_to_is_dropped() {
        let (queue, messages) = sync_channel(QUEUE);
        let manager = Manager(Some(queue));
        for n in 0..QUEUE * 2 {
            manager.status(n.to_string());
        }
        assert_eq!(messages.try_iter().count(), QUEUE);
        Manager::default().ready();
    }
}
