//! The daemon: wiring, signals, and an end in order.
//!
//! Promises: starts whole or tells why not; on SIGTERM accepts no more, lets open transactions get to their
//! end within the time set, writes what is left of the log, and exits 0. A service manager is told of each step.

mod outputs;
mod pages;
mod sources;
mod status;
mod watching;

use crate::control::{self, Listening};
use crate::daemon_file::{DaemonFile, Sockets};
use crate::environment::Environment;
use crate::evidence::Observed;
use crate::evidence::writer::{self, Evidence};
use crate::listener::{
    self, BindError, ConnectionError, Listener, Passed, PassedError, Shared, Stream, Threads,
};
use crate::milter;
use crate::outbound;
use crate::policy::Policy;
use crate::policy::attempt::Attempt;
use crate::policy::decide::Decision;
use crate::policy::facts::{Direction, Facts};
use crate::policy::negotiated::Negotiated;
use crate::policy::record::Record;
use crate::policy::rule::Delay;
use crate::reload::{self, NoPolicy, Reloader, Reply, Targets, Trigger};
use crate::snapshot::SnapshotCell;
use crate::systemd::{self, Manager, Teller};
use crate::telemetry::decisions::Decisions;
use crate::telemetry::log::with_causes;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::Sink;
use crate::waiting::keeper::{Keeper, Waiting};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use outputs::{LOOK_FOR_LOSSES, Outputs};
use sources::{Served, Sources};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use watching::Watching;

/// Descriptors beside the connections of MTAs: listeners, logs, the watch, the runtime's own, those who ask for the status.
const OTHER_DESCRIPTORS: u64 = 192;
/// Where new connections wait for the next daemon, those that have begun no transaction yet are closed only after so long:
/// a client that has just connected names its sender within seconds.
const GRACE: Duration = Duration::from_secs(5);
/// How often the service manager is told how it goes, where that has changed.
const TELL_STATUS: Duration = Duration::from_secs(5);
/// How long those who ask on the control socket have to read their answers at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No policy. With the daemon's file, for whoever sees nothing but this.
    #[error("{0}: `encr-milter check -c {path}` shows what is wrong with its files", path = .1.display())]
    NoPolicy(NoPolicy, PathBuf),
    /// A listener.
    #[error("cannot listen on {0}")]
    Listen(String, #[source] BindError),
    /// What systemd passes, and what the daemon's file says.
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// A thread, the runtime, a signal handler.
    #[error("cannot set up {0}")]
    Set(&'static str, #[source] io::Error),
}

/// What answers: one for all connections.
struct Answering {
    snapshots: Arc<SnapshotCell>,
    decisions: Arc<Decisions>,
    waiting: Waiting,
    evidence: Option<Evidence>,
    metrics: Arc<Metrics>,
}

impl Environment for Answering {
    fn policy(&self) -> Arc<Policy> {
        self.snapshots.load()
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn waited(&self, attempt: Option<Attempt>, delay: Delay, now: jiff::Timestamp) -> u32 {
        self.waiting.waited(attempt, delay, now)
    }

    fn record(&self, facts: &Facts<'_>, decision: &Decision<'_>, record: &Record<'_>) {
        // Here, and nowhere else: one record, one count.
        self.metrics.decided(facts.direction, decision);
        self.decisions.write(record);
        if let (Some(evidence), Some(at)) = (&self.evidence, record.ts) {
            evidence.take(Observed::of(facts, decision, at));
        }
    }

    fn session(&self, direction: Direction, negotiated: Negotiated) {
        self.metrics.session(direction, negotiated);
    }

    fn answered(&self, direction: Direction, took: Duration) {
        self.metrics.answered(direction, took);
    }
}

/// Runs the daemon to its end. Returns when it was told to stop, or could not start. `notices` are said
/// first, once there is a log to say them in.
pub fn run(config: &Path, daemon: &DaemonFile, notices: &[String]) -> Result<(), StartError> {
    // Before there are threads: it takes what it has read out of the environment.
    let passed = Passed::take();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    let outputs = Outputs::open(&daemon.log)?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), config = %config.display(), "starting");
    if let Some(left) = passed.as_ref().ok().and_then(Passed::left) {
        tracing::warn!("no sockets are taken from the surroundings: {left}");
    }
    raise_descriptor_limit(daemon.max_connections());
    let result = Teller::start()
        .map_err(|error| StartError::Set("the thread that speaks to systemd", error))
        .and_then(|teller| {
            let result = passed
                .map_err(StartError::from)
                .and_then(|passed| start_and_serve(config, daemon, &outputs, passed, teller.manager()));
            if let Err(error) = &result {
                teller.manager().status(format!("not started: {}", with_causes(error)));
            }
            teller.close();
            result
        });
    let log = outputs.close_decisions();
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!("not started: {}", with_causes(error)),
    }
    log.close();
    result
}

fn start_and_serve(
    config: &Path,
    daemon: &DaemonFile,
    outputs: &Outputs,
    mut passed: Passed,
    manager: &Manager,
) -> Result<(), StartError> {
    // For all that is no mail: who watches, signals, the service manager.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| StartError::Set("the runtime", error))?;
    // Before anything that takes time, and before there is a socket: whoever sees us may send a signal at once.
    let signals = {
        let _context = runtime.enter();
        Signals::new().map_err(|error| StartError::Set("a signal handler", error))?
    };
    let (threads, end_of_threads) =
        Threads::start().map_err(|error| StartError::Set("the threads that answer", error))?;
    let metrics = Arc::new(Metrics::new(jiff::Timestamp::now()));
    let beginning =
        reload::begin(daemon).map_err(|error| StartError::NoPolicy(error, config.to_path_buf()))?;
    metrics.expect(&beginning.policy);
    let snapshots = Arc::new(SnapshotCell::new(beginning.policy));
    let targets = Targets {
        snapshots: Arc::clone(&snapshots),
        log: outputs.switch(),
        metrics: Arc::clone(&metrics),
        manager: manager.clone(),
    };
    let keeper = Keeper::start(&daemon.state, jiff::Timestamp::now())
        .map_err(|error| StartError::Set("the thread that keeps waits", error))?;
    let in_force = Arc::clone(&snapshots);
    let evidence = daemon
        .evidence
        .map(|settings| writer::Writer::start(&daemon.state, settings, move || in_force.load()))
        .transpose()
        .map_err(|error| StartError::Set("the thread that keeps evidence", error))?;
    let answering = Arc::new(Answering {
        snapshots,
        decisions: Arc::clone(&outputs.decisions),
        waiting: keeper.waiting(),
        evidence: evidence.as_ref().map(|writer| writer.evidence().clone()),
        metrics,
    });
    let result = runtime.block_on(async {
        let listeners = {
            let _within = threads.enter();
            Listeners {
                milter: open(&daemon.milter, &mut passed)?,
                outbound: open(&daemon.outbound, &mut passed)?,
            }
        };
        passed.all_claimed()?;
        let (origin, first) = (beginning.origin, beginning.outcome);
        let reloader = Reloader::start(config.to_path_buf(), daemon.clone(), origin, first, targets)
            .map_err(|error| StartError::Set("the reloading thread", error))?;
        let started =
            Started { config, daemon, answering, outputs, reloader: &reloader, manager, threads: &threads };
        started.serve(listeners, signals).await;
        reloader.stop();
        Ok(())
    });
    end_of_threads.end();
    drop(runtime);
    keeper.stop();
    if let Some(evidence) = evidence {
        evidence.close();
    }
    result
}

/// The sockets, open.
struct Listeners {
    milter: Vec<Listener>,
    outbound: Vec<Listener>,
}

/// Opens each `listen`: the socket that the service manager passes for it, or one of our own.
fn open(sockets: &Sockets, passed: &mut Passed) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for address in &sockets.listen {
        let claimed = passed.claim(address)?;
        if let Some(listener) = claimed {
            let has_file = listener.has_file();
            // Whoever is in its queue is served in any case.
            listeners.push(listener);
            if has_file {
                continue;
            }
            tracing::error!(
                listener = %address,
                "the file of the socket that systemd passes is gone, and no MTA finds it: listening there anew; \
                 `systemctl restart` the .socket unit, and keep its folder (RuntimeDirectoryPreserve=yes)"
            );
        }
        let bound = Listener::bind(address, &sockets.ownership)
            .map_err(|error| StartError::Listen(address.to_string(), error))?;
        listeners.push(bound);
    }
    Ok(listeners)
}

/// What serves, once all is there that can fail.
struct Started<'a> {
    config: &'a Path,
    daemon: &'a DaemonFile,
    answering: Arc<Answering>,
    outputs: &'a Outputs,
    reloader: &'a Reloader,
    manager: &'a Manager,
    threads: &'a Threads,
}

impl Started<'_> {
    /// Serves until told to stop, and to the end of the drain.
    async fn serve(self, listeners: Listeners, mut signals: Signals) {
        let (daemon, outputs, answering) = (self.daemon, self.outputs, &self.answering);
        let (shared, mut drain) = listener::shared(daemon.milter.max_connections, "milter.max-connections");
        let shared = shared.over(self.threads);
        let shared_outbound = shared.beside(daemon.outbound.max_connections, "outbound.max-connections");
        let sources = Arc::new(self.sources(&listeners, &shared, &shared_outbound));
        let (mut asks, end_control) = self.control(&sources);
        // Watched to its end: only then may this go.
        let _watching = Watching::start(&daemon.http, &sources);
        let (to_milter, idle) = (Arc::clone(answering), daemon.milter.idle);
        spawn(self.threads, listeners.milter, None, &shared, move |stream, drain| {
            let answering = Arc::clone(&to_milter);
            async move { milter::connection::serve(stream, &*answering, drain, idle).await }
        });
        let (to_outbound, idle) = (Arc::clone(answering), daemon.outbound.idle);
        spawn(self.threads, listeners.outbound, Some("outbound"), &shared_outbound, move |stream, drain| {
            let answering = Arc::clone(&to_outbound);
            async move { outbound::serve(stream, &*answering, drain, idle).await }
        });
        drop((shared, shared_outbound));
        let is_passed = sources.listeners.iter().any(|listener| listener.passed);
        let waiting = answering.waiting.clone();
        tokio::spawn(look_for_losses(outputs.log.sink().clone(), Arc::clone(&answering.metrics), waiting));
        if let Some(within) = systemd::watchdog() {
            let threads = self.threads.clone();
            let alive = move || {
                let threads = threads.clone();
                async move { threads.alive().await }
            };
            tokio::spawn(systemd::signs_of_life(self.manager.clone(), within, alive));
        }
        self.manager.status(sources.line());
        self.manager.ready();
        tokio::spawn(tell_status(
            self.manager.clone(),
            Arc::clone(&sources),
            self.reloader.reloads().watch(),
        ));

        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Hangup => {
                        tracing::info!("SIGHUP: opening the logs anew and loading the policy");
                        outputs.reopen();
                        self.reloader.trigger(Trigger::HANGUP);
                    }
                    Told::Stop => break,
                },
                Some(reply) = asks.recv() => {
                    tracing::info!("asked to: opening the logs anew and loading the policy");
                    outputs.reopen();
                    self.reloader.trigger(Trigger::asked(reply));
                }
            }
        }
        // Whoever asks for a load from now on is told that the daemon stops.
        drop(asks);
        tracing::info!(
            within_seconds = daemon.drain.as_secs(),
            "stopping: open transactions get to their end"
        );
        self.manager.stopping(daemon.drain);
        drain.close();
        self.manager.status(sources.line());
        let drained = async {
            // Whoever connects now waits for the next daemon: those who are here have time to begin a transaction.
            if is_passed {
                tokio::select! {
                    () = drain.ended() => return,
                    () = tokio::time::sleep(GRACE) => {}
                }
            }
            drain.begin();
            drain.ended().await;
        };
        tokio::select! {
            () = drained => {}
            () = tokio::time::sleep(daemon.drain) => tracing::warn!("some transactions did not end in time; they are cut"),
            () = signals.stop() => tracing::warn!("told to stop again: open transactions are cut"),
        }
        if let Some(mut end) = end_control {
            end.begin();
            // Who does not read its answer is cut.
            let _ = tokio::time::timeout(LAST_ANSWERS, end.ended()).await;
        }
    }

    /// Who knows how it goes.
    fn sources(&self, listeners: &Listeners, shared: &Shared, shared_outbound: &Shared) -> Sources {
        let listening = |serves: &'static str, listeners: &[Listener]| -> Vec<Listening> {
            let listening = |listener: &Listener| Listening {
                address: listener.address().to_string(),
                serves: serves.to_owned(),
                passed: listener.is_passed(),
            };
            listeners.iter().map(listening).collect()
        };
        Sources {
            config: self.config.display().to_string(),
            since: jiff::Timestamp::now(),
            snapshots: Arc::clone(&self.answering.snapshots),
            reloads: self.reloader.reloads(),
            reloading: self.reloader.life(),
            listeners: [listening("milter", &listeners.milter), listening("outbound", &listeners.outbound)]
                .concat(),
            served: [
                Served { name: "milter", view: shared.view(), listeners: listeners.milter.len() },
                Served {
                    name: "outbound",
                    view: shared_outbound.view(),
                    listeners: listeners.outbound.len(),
                },
            ],
            metrics: Arc::clone(&self.answering.metrics),
            waiting: self.answering.waiting.clone(),
            sinks: self.outputs.sinks(),
            evidence: self.answering.evidence.clone(),
        }
    }

    /// Answers on the control socket, during the drain too. Gives those who ask for a load, and the socket's end.
    fn control(&self, sources: &Arc<Sources>) -> (mpsc::Receiver<Reply>, Option<listener::Drain>) {
        let (asking, asks) = mpsc::channel(control::MAX_CONNECTIONS);
        let Some(path) = self.daemon.control.clone() else { return (asks, None) };
        let sources = Arc::clone(sources);
        let site = control::Site::new(asking, move || sources.status());
        let (shared, end) = listener::shared(control::MAX_CONNECTIONS, "the control socket's");
        tokio::spawn(control::keep(path, Arc::new(site), shared));
        (asks, Some(end))
    }
}

/// Tells the service manager how it goes, now and then, and at once where a load has ended.
async fn tell_status(
    manager: Manager,
    sources: Arc<Sources>,
    mut loads: watch::Receiver<Arc<reload::Outcome>>,
) {
    let mut said = sources.line();
    let mut look = tokio::time::interval(TELL_STATUS);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            Ok(()) = loads.changed() => {}
        }
        let line = sources.line();
        if line != said {
            manager.status(line.clone());
            said = line;
        }
    }
}

/// The signals that the daemon heeds.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Hangup,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
        }
    }

    /// Resolves when the daemon is told to stop.
    async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Hangup,
    Stop,
}

/// Serves every connection of these listeners. One that was cut is daily business; one that speaks another
/// protocol is to be seen.
fn spawn<F, S, P>(
    threads: &Threads,
    listeners: Vec<Listener>,
    serves: Option<&'static str>,
    shared: &Shared,
    serve_one: S,
) where
    S: Fn(Stream, watch::Receiver<bool>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), ConnectionError<P>>> + Send + 'static,
    P: std::error::Error + Send,
{
    for listener in listeners {
        let address = listener.address().to_string();
        let tally = Arc::clone(shared.tally());
        let passed = listener.is_passed().then_some("by systemd");
        tracing::info!(listener = %address, serves, passed, "listening");
        let serve_one = serve_one.clone();
        threads.accepting(listener::serve(listener, shared.clone(), move |stream, drain| {
            let (connection, address) = (serve_one(stream, drain), address.clone());
            let tally = Arc::clone(&tally);
            async move {
                let ended = connection.await;
                if let Err(error) = &ended {
                    tally.failed(error);
                }
                match ended {
                    Ok(()) => {}
                    Err(error @ ConnectionError::Protocol(_)) => {
                        tracing::warn!(listener = %address, "connection closed: {error}");
                    }
                    Err(error) => tracing::debug!(listener = %address, "connection ended: {error}"),
                }
            }
        }));
    }
}

/// Says what the MTA did not tell, and who was let through in doubt, and has the log's writer say what could not be written.
async fn look_for_losses(log: Sink, metrics: Arc<Metrics>, waiting: Waiting) {
    let (mut unknown_before, mut doubt_before) = (0, 0);
    let mut look = tokio::time::interval(LOOK_FOR_LOSSES);
    loop {
        look.tick().await;
        log.look();
        let unknown = metrics.unknown();
        if unknown != unknown_before {
            tracing::warn!(
                messages = unknown - unknown_before,
                "the MTA did not tell what would be needed to judge: mail was accepted; see `reason` in the decisions"
            );
            unknown_before = unknown;
        }
        let in_doubt = waiting.in_doubt();
        if in_doubt != doubt_before {
            tracing::warn!(
                messages = in_doubt - doubt_before,
                "nobody could tell how long these have been deferred: they are accepted as if their max-delay were over"
            );
            doubt_before = in_doubt;
        }
    }
}

/// Every connection needs a descriptor, and the soft limit is mostly 1024.
fn raise_descriptor_limit(max_connections: usize) {
    let wanted = max_connections as u64 + OTHER_DESCRIPTORS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft >= wanted {
        return;
    }
    let raised = wanted.min(hard);
    if setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_err() || raised < wanted {
        tracing::warn!(
            limit = raised.max(soft),
            wanted,
            "fewer files may be open than max-connections needs; raise LimitNOFILE"
        );
    }
}
