//! Triggers → load → swap or keep.
//!
//! Promises: a broken edit changes nothing, a good one is in force for the next transaction, and the log
//! says what changed in meaning. Loading happens on a thread of its own, and so does dropping what was in
//! force before. The last good policy is kept in the state folder for a start with a broken one.
//!
//! What triggers is a change of the files that make up the policy, however it came about: the folders are
//! watched (of the files, and of every symbolic link on the way to them), and looked at every two seconds
//! besides, for a watch can be lost with its folder. What decides is what is there, not what was reported.

mod last_good;
mod settle;
mod watch;

use crate::daemon_file::{self, DaemonFile, PolicyFiles};
use crate::diagnostics::Severity;
use crate::policy::rule::Mode;
use crate::policy::{Day, Policy};
use crate::policy_file::diff::diff;
use crate::policy_file::load::{Disk, Loaded, load};
use crate::snapshot::SnapshotCell;
use crate::telemetry::log::Switch;
use crate::telemetry::metrics::Metrics;
use settle::{Change, Settle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use watch::{Signature, Watch};

/// How often the files are looked at, whatever the watch says.
const LOOK: Duration = Duration::from_secs(2);
/// At the start, files that change while they are read are read again, so often, and after such a pause.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Changes that the log tells one by one; of a larger edit the rest is counted.
const TOLD: usize = 50;

/// Why the daemon looks at its files.
#[derive(Debug)]
pub struct Trigger(Why);

#[derive(Debug)]
enum Why {
    Changed(Change),
    Hangup,
    Stop,
}

impl Trigger {
    /// SIGHUP: load in any case.
    pub const HANGUP: Self = Self(Why::Hangup);
    const STOP: Self = Self(Why::Stop);

    fn changed(change: Change) -> Self {
        Self(Why::Changed(change))
    }
}

/// No policy: the file is broken, and there is no last good one.
#[derive(Debug, thiserror::Error)]
#[error("there is no policy to begin with")]
pub struct NoPolicy;

/// What was read, and what the files were like when it was.
#[derive(Debug)]
pub struct Origin {
    signature: Signature,
    lists: Vec<PathBuf>,
    sound: bool,
}

impl Origin {
    /// Whether the files make up a policy: where not, another one is in force.
    pub fn is_sound(&self) -> bool {
        self.sound
    }
}

/// Reads the policy's files. Nothing where they changed while they were read: then whoever writes may not be
/// done, and reading at once again would meet half of it.
fn load_whole(files: &PolicyFiles, lists: &[PathBuf]) -> Option<(Loaded, Origin)> {
    let mut lists = lists.to_vec();
    for _ in 0..TRIES {
        let signature = Signature::of(&files.patterns, &lists);
        let loaded = load(&files.request(), &mut Disk, today());
        if Signature::of(&files.patterns, &lists) != signature {
            return None;
        }
        // Lists that were not known before were read without being looked at first: once more, with them.
        let named = list_paths(&loaded);
        if named == lists {
            let sound = loaded.policy.is_some();
            return Some((loaded, Origin { signature, lists, sound }));
        }
        lists = named;
    }
    None
}

/// Loads the policy to begin with: that of the files, or the last good one. Tells the log.
pub fn begin(daemon: &DaemonFile) -> Result<(Policy, Origin), NoPolicy> {
    let unread = || Origin { signature: Signature::default(), lists: Vec::new(), sound: false };
    let mut read = load_whole(&daemon.policy, &[]);
    for _ in 0..TRIES {
        if read.is_some() {
            break;
        }
        std::thread::sleep(PAUSE);
        read = load_whole(&daemon.policy, &[]);
    }
    let origin = match read {
        None => {
            tracing::error!("the policy's files change faster than they can be read");
            unread()
        }
        Some((loaded, origin)) => {
            tell(&loaded);
            if let Some(policy) = loaded.policy {
                tracing::info!(policy = %policy.fingerprint(), rules = policy.rules().len(), "policy in force");
                tell_unasked(daemon, &policy);
                last_good::save(&daemon.state, &last_good::Kept::of(&loaded.sources, loaded.policy_files));
                return Ok((policy, origin));
            }
            origin
        }
    };
    let state = daemon.state.display();
    match last_good::load(&daemon.state, today()) {
        Some(policy) => {
            tracing::error!(
                policy = %policy.fingerprint(), %state,
                "the policy's files are broken: beginning with the last good policy of the state folder"
            );
            Ok((policy, origin))
        }
        None => {
            tracing::error!(%state, "the policy's files are broken, and the state folder has no last good policy");
            Err(NoPolicy)
        }
    }
}

/// Rules that nobody could ask for are said with each policy.
fn tell_unasked(daemon: &DaemonFile, policy: &Policy) {
    if let Some(unasked) = daemon.unasked(policy) {
        tracing::warn!("{} [{}]; {}", unasked.message, unasked.code, unasked.hint.unwrap_or_default());
    }
}

/// The thread that reloads.
#[derive(Debug)]
pub struct Reloader {
    triggers: Sender<Trigger>,
    thread: JoinHandle<()>,
    lives: Weak<()>,
}

/// Tells whether the thread that reloads is still there.
#[derive(Clone, Debug)]
pub struct Life(Weak<()>);

impl Life {
    /// Whether it is.
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// What the reloader acts on.
#[derive(Debug)]
pub struct Targets {
    /// The policy in force.
    pub snapshots: Arc<SnapshotCell>,
    /// The log and the decisions.
    pub log: Switch,
    /// Who is told what came of each reload.
    pub metrics: Arc<Metrics>,
}

impl Reloader {
    /// Starts watching. `config` is the daemon's own file, whose [log] can change.
    pub fn start(
        config: PathBuf,
        daemon: DaemonFile,
        origin: Origin,
        targets: Targets,
    ) -> std::io::Result<Self> {
        let (triggers, received) = channel();
        let watch = Watch::new(triggers.clone());
        let worker = Worker {
            config: Signature::of(&[], std::slice::from_ref(&config)),
            config_path: config,
            daemon,
            // The files were read before anybody watched: what changed since is seen at the first look.
            loaded: origin.signature,
            lists: origin.lists,
            targets,
            watch,
            retired: Vec::new(),
            day: today(),
        };
        let life = Arc::new(());
        let lives = Arc::downgrade(&life);
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            let _life = life;
            worker.run(&received);
        })?;
        Ok(Self { triggers, thread, lives })
    }

    /// Tells, as long as anybody asks, whether its thread is still there.
    pub fn life(&self) -> Life {
        Life(self.lives.clone())
    }

    /// The way to trigger it.
    pub fn trigger(&self, trigger: Trigger) {
        // Its end is the process's.
        let _ = self.triggers.send(trigger);
    }

    /// Ends it.
    pub fn stop(self) {
        self.trigger(Trigger::STOP);
        // A panic in it has been printed already.
        let _ = self.thread.join();
    }
}

struct Worker {
    config_path: PathBuf,
    config: Signature,
    daemon: DaemonFile,
    /// What the files were like when they were last read, whatever came of it.
    loaded: Signature,
    lists: Vec<PathBuf>,
    targets: Targets,
    watch: Watch,
    /// Policies that were in force, until no transaction holds them any more.
    retired: Vec<Arc<Policy>>,
    day: Day,
}

impl Worker {
    fn run(mut self, triggers: &Receiver<Trigger>) {
        let mut settle = Settle::default();
        // A SIGHUP that came while a file was being written is answered when it is closed.
        let mut hangup = false;
        let now = self.signature();
        self.rewatch(&now);
        if now != self.loaded {
            settle.changed(Instant::now(), Change::Unseen);
        }
        loop {
            let wait =
                settle.due().map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
            match triggers.recv_timeout(wait) {
                Ok(Trigger(Why::Changed(change))) => settle.changed(Instant::now(), change),
                Ok(Trigger(Why::Hangup)) => {
                    hangup = true;
                    settle.changed(Instant::now(), Change::Done(Vec::new()));
                }
                Ok(Trigger(Why::Stop)) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if settle.due().is_none() {
                        let now = self.signature();
                        self.rewatch(&now);
                        if now != self.loaded || self.config_changed() {
                            settle.changed(Instant::now(), Change::Unseen);
                        }
                    }
                }
            }
            if settle.due().is_some_and(|due| due <= Instant::now()) {
                settle.looked();
                let hangup = std::mem::take(&mut hangup);
                self.guarded(|worker| {
                    if hangup || worker.config_changed() {
                        worker.daemon_file();
                    }
                    if (hangup || worker.changed()) && !worker.reload() {
                        settle.changed(Instant::now(), Change::Unseen);
                    }
                });
            }
            self.retired.retain(|policy| Arc::strong_count(policy) > 1);
            self.new_day();
        }
    }

    /// A panic while loading would be a bug; it must not end reloading, nor go unseen.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            tracing::error!(
                "loading the policy failed within the program: the one in force stays; please report this"
            );
        }
    }

    fn config_changed(&self) -> bool {
        self.config != Signature::of(&[], std::slice::from_ref(&self.config_path))
    }

    fn signature(&self) -> Signature {
        Signature::of(&self.daemon.policy.patterns, &self.lists)
    }

    fn changed(&self) -> bool {
        self.signature() != self.loaded
    }

    /// Watches where these files lie, and the daemon's own.
    fn rewatch(&mut self, files: &Signature) {
        let mut paths = files.paths();
        paths.push(self.config_path.clone());
        self.watch.update(&paths, &self.daemon.policy.patterns);
    }

    /// Whether the files held still.
    fn reload(&mut self) -> bool {
        match load_whole(&self.daemon.policy, &self.lists) {
            Some((loaded, origin)) => {
                self.loaded = origin.signature;
                self.lists = origin.lists;
                // First, so that an edit that follows on the heels of this one is seen at once.
                let now = self.loaded.clone();
                self.rewatch(&now);
                self.put_in_force(loaded);
                true
            }
            None => {
                tracing::debug!("the policy's files changed while they were read");
                false
            }
        }
    }

    fn put_in_force(&mut self, loaded: Loaded) {
        tell(&loaded);
        let old = self.targets.snapshots.load();
        let kept = last_good::Kept::of(&loaded.sources, loaded.policy_files);
        let Some(policy) = loaded.policy else {
            let found = loaded.diagnostics.summary().unwrap_or_default();
            self.targets.metrics.refused(jiff::Timestamp::now());
            tracing::error!(policy = %old.fingerprint(), found, "policy refused: the one in force stays");
            return;
        };
        let changes = diff(&old, &policy);
        let new = Arc::new(policy);
        self.targets.metrics.expect(&new);
        let retired = self.targets.snapshots.swap(Arc::clone(&new));
        self.targets.metrics.in_force(&new, true, jiff::Timestamp::now());
        // Said when it is so: whoever acts on these lines must not meet the policy before.
        for change in changes.iter().take(TOLD) {
            tracing::info!("{change}");
        }
        if changes.len() > TOLD {
            tracing::info!("… and {} changes more", changes.len() - TOLD);
        }
        let meaning = if changes.is_empty() { "the same in meaning" } else { "changed" };
        tracing::info!(policy = %new.fingerprint(), rules = new.rules().len(), meaning, "policy in force");
        tell_unasked(&self.daemon, &new);
        drop(old);
        self.retired.push(retired);
        last_good::save(&self.daemon.state, &kept);
    }

    /// The daemon's own file changed: what can change while it runs does.
    fn daemon_file(&mut self) {
        self.config = Signature::of(&[], std::slice::from_ref(&self.config_path));
        let read = daemon_file::read(&self.config_path);
        for (severity, line) in read.diagnostics.lines(&read.sources) {
            say(severity, &line);
        }
        let Some(new) = read.daemon else {
            tracing::error!("the daemon's file is broken: its settings stay as they are");
            return;
        };
        if new.log != self.daemon.log {
            self.targets.log.switch(&self.daemon.log, &new.log);
            self.daemon.log.clone_from(&new.log);
        }
        if new != self.daemon {
            tracing::warn!(
                file = %self.config_path.display(),
                "settings other than those of [log] have changed: they are taken at the next start"
            );
        }
    }

    /// With a new day, dates of the policy take effect.
    fn new_day(&mut self) {
        let today = today();
        if today == self.day {
            return;
        }
        self.day = today;
        let policy = self.targets.snapshots.load();
        for rule in policy.rules() {
            if rule.exemption.as_ref().is_some_and(|exemption| {
                exemption.until.is_some_and(|until| until < today && until.0 + 1 == today.0)
            }) {
                tracing::warn!("rule {}: its exemption has lapsed", rule.name);
            }
            for mode in Mode::HARDEST_FIRST {
                if rule.modes.get(mode).is_some_and(|entry| entry.from == Some(today)) {
                    tracing::info!("rule {}: {mode} is in force from today", rule.name);
                }
            }
        }
    }
}

fn today() -> Day {
    Day::of_unix_seconds(jiff::Timestamp::now().as_second())
}

/// The list files of a policy.
fn list_paths(loaded: &Loaded) -> Vec<PathBuf> {
    let mut lists: Vec<PathBuf> =
        loaded.sources.iter().skip(loaded.policy_files).map(|source| source.path.clone()).collect();
    // One that could not be read may come.
    lists.extend(loaded.diagnostics.iter().filter_map(|diagnostic| diagnostic.path.clone()));
    lists
}

fn tell(loaded: &Loaded) {
    for (severity, line) in loaded.diagnostics.lines(&loaded.sources) {
        say(severity, &line);
    }
}

fn say(severity: Severity, line: &str) {
    match severity {
        Severity::Error => tracing::error!("{line}"),
        Severity::Warning => tracing::warn!("{line}"),
    }
}
