//! The milter in process: its listener and its connections, with a world that the test holds in its hands.
//!
//! Promises: the policy changes when the test says so, the time stands still, and every record that is
//! written can be looked at.

use super::mta::Mta;
use super::{NOW, policy, until};
use encr_milter::environment::Environment;
use encr_milter::listener::{Address, Drain, Listener, Ownership, serve, shared};
use encr_milter::milter::connection;
use encr_milter::policy::Policy;
use encr_milter::policy::attempt::Attempt;
use encr_milter::policy::decide::Decision;
use encr_milter::policy::facts::Facts;
use encr_milter::policy::record::Record;
use encr_milter::policy::rule::Delay;
use serde_json::Value;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

struct World {
    policy: Mutex<Arc<Policy>>,
    records: Mutex<Vec<Value>>,
    errors: Mutex<Vec<String>>,
}

impl Environment for World {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.lock().unwrap())
    }

    fn now(&self) -> jiff::Timestamp {
        NOW
    }

    fn waited(&self, _: Option<Attempt>, _: Delay, _: jiff::Timestamp) -> u32 {
        // The time stands still.
        0
    }

    fn record(&self, _: &Facts<'_>, _: &Decision<'_>, record: &Record<'_>) {
        let mut line = Vec::new();
        record.write_json(&mut line);
        self.records.lock().unwrap().push(serde_json::from_slice(&line).unwrap());
    }
}

/// The milter, running.
pub(crate) struct Milter {
    world: Arc<World>,
    // Behind an `Option` for `drop`, which must not wait for connections that are open.
    runtime: Option<Runtime>,
    drain: Drain,
    folder: tempfile::TempDir,
    tcp: SocketAddr,
}

impl Milter {
    /// Starts it on a unix and a TCP socket, with a policy (without its `version`).
    pub(crate) fn start(text: &str) -> Self {
        Self::start_with(text, Duration::from_mins(10))
    }

    /// The same, with a limit to an MTA's silence.
    pub(crate) fn start_with(text: &str, idle: Duration) -> Self {
        let world = Arc::new(World {
            policy: Mutex::new(Arc::new(policy(text))),
            records: Mutex::default(),
            errors: Mutex::default(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let port = super::free_port();
        let (shared, drain) = shared(1000, "milter.max-connections");
        let entered = runtime.enter();
        for address in [
            Address::Unix(folder.path().join("m.sock")),
            Address::Tcp { v6: false, port, host: "127.0.0.1".into() },
        ] {
            let listener = Listener::bind(&address, &Ownership::default()).unwrap();
            let world = Arc::clone(&world);
            runtime.spawn(serve(listener, shared.clone(), move |stream, drain| {
                let world = Arc::clone(&world);
                async move {
                    if let Err(error) = connection::serve(stream, &*world, drain, idle).await {
                        world.errors.lock().unwrap().push(error.to_string());
                    }
                }
            }));
        }
        drop(entered);
        Self { world, runtime: Some(runtime), drain, folder, tcp: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Its unix socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("m.sock")
    }

    /// Its TCP socket.
    pub(crate) fn address(&self) -> SocketAddr {
        self.tcp
    }

    /// An MTA of ours that has connected.
    pub(crate) fn connect(&self) -> Mta {
        Mta::unix(&self.path()).unwrap()
    }

    /// An MTA of ours that has connected and negotiated.
    pub(crate) fn negotiated(&self) -> Mta {
        let mut mta = self.connect();
        mta.negotiate();
        mta
    }

    /// Puts another policy in force.
    pub(crate) fn swap(&self, text: &str) {
        *self.world.policy.lock().unwrap() = Arc::new(policy(text));
    }

    /// The fingerprint of the policy in force.
    pub(crate) fn fingerprint(&self) -> String {
        self.world.policy.lock().unwrap().fingerprint().to_string()
    }

    /// Tells the listeners and connections to end when they can.
    pub(crate) fn drain(&self) {
        self.drain.begin();
    }

    /// Every record so far, which are forgotten. To be called when all that should write has: its answer has
    /// been read, or its connection is closed.
    pub(crate) fn take_records(&self) -> Vec<Value> {
        std::mem::take(&mut self.world.records.lock().unwrap())
    }

    /// Waits for so many records, and takes them.
    pub(crate) fn wait_records(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} records"), || {
            (self.world.records.lock().unwrap().len() >= count).then_some(())
        });
        self.take_records()
    }

    /// Waits for the next connection that was ended for a reason, and takes the reason.
    pub(crate) fn wait_error(&self) -> String {
        until("a connection's error", || self.world.errors.lock().unwrap().pop())
    }

    /// Runs something that needs the runtime.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }
}

impl Drop for Milter {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What of a record most tests look at: verdict, disposition, rule, recipient, reason; `-` where absent.
pub(crate) fn brief(record: &Value) -> String {
    let part = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
    ["verdict", "disposition", "rule", "recipient", "reason"].map(part).join(" | ")
}
