//! Triggers → load → swap or keep.
//!
//! Promises: a broken edit changes nothing, a good one is in force for the next transaction, and the log
//! says what changed in meaning. Loading happens on a thread of its own, and so does dropping what was in
//! force before. The last good policy is kept in the state folder for a start with a broken one.
//!
//! What triggers is a change of the files that make up the policy, however it came about: the folders are
//! watched (of the files, and of every symbolic link on the way to them), and looked at every two seconds
//! besides, for a watch can be lost with its folder. What decides is what is there, not what was reported.
//! Whoever asks for a load is told what came of it, each one; what came of the last is kept.

mod beginning;
mod last_good;
mod outcome;
mod settle;
mod watch;

use crate::daemon_file::{self, DaemonFile, PolicyFiles};
use crate::diagnostics::{Diagnostics, Severity};
use crate::policy::rule::Mode;
use crate::policy::{Day, Policy};
use crate::policy_file::diff::diff;
use crate::policy_file::load::{Loaded, is_passing, load};
use crate::snapshot::SnapshotCell;
use crate::systemd::Manager;
use crate::telemetry::log::Switch;
use crate::telemetry::metrics::Metrics;
pub use beginning::{Beginning, NoPolicy, begin};
pub use outcome::{Cause, Counts, Ending, InForce, Outcome, Reloads};
use settle::{Change, Settle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use watch::{Looked, Signature, Watch};

/// How often the files are looked at, whatever the watch says.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is tried again to keep the last good policy where that could not be.
const KEEP_AGAIN: Duration = Duration::from_secs(5);
/// Files that are larger together are loaded by a thread that steps back behind all others: it has work for longer than
/// whoever is answered beside it should wait. A policy of a thousand rules is in force sooner than that is worth.
const LARGE: u64 = 1024 * 1024;
/// The nicest that a thread can be.
const NICE: i32 = 19;
/// At the start, files that change while they are read are read again, so often, and after such a pause.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Changes that the log tells one by one; of a larger edit the rest is counted.
const TOLD: usize = 50;
/// Whoever asked is told after so long that the files do not hold still.
const PATIENCE: Duration = Duration::from_secs(10);
/// At the end a load that is under way is not waited for longer: what it would come to is for nobody.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// A panic while loading would be a bug; it must not end reloading, nor go unseen.
const FAILED: &str =
    "loading the policy failed within the program: the one in force stays; please report this";

/// Why the daemon looks at its files.
#[derive(Debug)]
pub struct Trigger(Why);

#[derive(Debug)]
enum Why {
    Changed(Change),
    Hangup,
    Asked(Reply),
    Stop,
}

/// Who is told what came of a load.
pub type Reply = oneshot::Sender<Arc<Outcome>>;

impl Trigger {
    /// SIGHUP: load in any case.
    pub const HANGUP: Self = Self(Why::Hangup);
    const STOP: Self = Self(Why::Stop);

    /// Somebody asks: load in any case, and answer.
    pub fn asked(reply: Reply) -> Self {
        Self(Why::Asked(reply))
    }

    fn changed(change: Change) -> Self {
        Self(Why::Changed(change))
    }
}

/// What was read, and what the files were like when it was.
#[derive(Debug)]
pub struct Origin {
    signature: Signature,
    lists: Vec<PathBuf>,
    /// The copy of the last good policy that could not be kept.
    unkept: Option<last_good::Kept>,
}

/// Reads the policy's files. Nothing where they changed while they were read: then whoever writes may not be
/// done, and reading at once again would meet half of it.
fn load_whole(files: &PolicyFiles) -> Option<(Loaded, Origin)> {
    let policy_files = Signature::of(&files.patterns, &[]);
    let mut disk = Looked(policy_files.clone());
    let loaded = load(&files.request(), &mut disk, today());
    let Looked(signature) = disk;
    // Lists are known once the files that name them have been read. One that could not be read may come.
    let lists = signature.paths_beyond(&policy_files);
    if Signature::of(&files.patterns, &lists) != signature {
        return None;
    }
    // What could not be read for a moment is looked at again, though it looks the same.
    let signature = if loaded.passing { Signature::default() } else { signature };
    Some((loaded, Origin { signature, lists, unkept: None }))
}

/// Rules that nobody could ask for are said with each policy.
fn tell_unasked(daemon: &DaemonFile, policy: &Policy, diagnostics: &mut Diagnostics) {
    if let Some(unasked) = daemon.unasked(policy) {
        let hint = unasked.hint.as_deref().unwrap_or_default();
        tracing::warn!("{} [{}]; {hint}", unasked.message, unasked.code);
        diagnostics.push(unasked);
    }
}

/// The thread that reloads.
#[derive(Debug)]
pub struct Reloader {
    triggers: Sender<Trigger>,
    reloads: Arc<Reloads>,
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
    /// Who is told of a policy before it is in force.
    pub metrics: Arc<Metrics>,
    /// Who is told of each reload.
    pub manager: Manager,
}

impl Reloader {
    /// Starts watching. `config` is the daemon's own file, whose [log] can change; `first` is what came of loading at
    /// the start.
    pub fn start(
        config: PathBuf,
        daemon: DaemonFile,
        origin: Origin,
        first: Outcome,
        targets: Targets,
    ) -> std::io::Result<Self> {
        let (triggers, received) = channel();
        let reloads = Arc::new(Reloads::begin(first));
        let watch = Watch::new(triggers.clone());
        let mut worker = Worker {
            config: Signature::of(&[], std::slice::from_ref(&config)),
            config_path: config,
            daemon,
            loaded: origin.signature,
            lists: origin.lists,
            passing: false,
            unkept: origin.unkept,
            kept_again: Instant::now(),
            targets,
            reloads: Arc::clone(&reloads),
            watch,
            retired: Vec::new(),
            day: today(),
        };
        // Before anybody is told that the daemon is ready: whoever begins to write a file then is seen to write.
        let settle = worker.begin();
        let life = Arc::new(());
        let lives = Arc::downgrade(&life);
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            worker.run(&received, settle);
            // Also where it panics: it goes with this closure.
            drop(life);
        })?;
        Ok(Self { triggers, reloads, thread, lives })
    }

    /// Tells, as long as anybody asks, whether its thread is still there.
    pub fn life(&self) -> Life {
        Life(self.lives.clone())
    }

    /// What came of loading so far.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// The way to trigger it.
    pub fn trigger(&self, trigger: Trigger) {
        // Its end is the process's.
        let _ = self.triggers.send(trigger);
    }

    /// Ends it. A load that takes long ends with the process.
    pub fn stop(self) {
        self.trigger(Trigger::STOP);
        let end = Instant::now() + STOP_WITHIN;
        while !self.thread.is_finished() {
            if Instant::now() >= end {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // A panic in it has been printed already.
        let _ = self.thread.join();
    }
}

/// Who waits for what comes of a load, and since when.
#[derive(Debug, Default)]
struct Asked(Vec<(Instant, Reply)>);

impl Asked {
    /// Answers those who have waited for so long.
    fn answer(&mut self, outcome: &Arc<Outcome>, waited: Duration) {
        for (_, reply) in self.0.extract_if(.., |(since, _)| since.elapsed() >= waited) {
            // Whoever asked may have gone.
            let _ = reply.send(Arc::clone(outcome));
        }
    }

    fn is_overdue(&self) -> bool {
        self.0.iter().any(|(since, _)| since.elapsed() >= PATIENCE)
    }
}

struct Worker {
    config_path: PathBuf,
    config: Signature,
    daemon: DaemonFile,
    /// What the files were like when they were last read, whatever came of it.
    loaded: Signature,
    lists: Vec<PathBuf>,
    /// Whether it was told that they could not be read for a moment.
    passing: bool,
    /// The copy of the last good policy that could not be kept.
    unkept: Option<last_good::Kept>,
    /// When it was last tried to keep it.
    kept_again: Instant,
    targets: Targets,
    reloads: Arc<Reloads>,
    watch: Watch,
    /// Policies that were in force, until no transaction holds them any more.
    retired: Vec<Arc<Policy>>,
    day: Day,
}

impl Worker {
    /// Begins to watch. The files were read before: what changed since is seen at this first look.
    fn begin(&mut self) -> Settle {
        let mut settle = Settle::default();
        let now = self.signature();
        self.rewatch(&now);
        if now != self.loaded {
            settle.changed(Instant::now(), Change::Unseen);
        }
        settle
    }

    fn run(mut self, triggers: &Receiver<Trigger>, mut settle: Settle) {
        // A SIGHUP that came while a file was being written is answered when it is closed.
        let mut hangup = false;
        let mut asked = Asked::default();
        loop {
            let wait =
                settle.due().map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
            match triggers.recv_timeout(wait) {
                Ok(Trigger(Why::Changed(change))) => settle.changed(Instant::now(), change),
                Ok(Trigger(Why::Hangup)) => {
                    hangup = true;
                    settle.changed(Instant::now(), Change::Done(Vec::new()));
                }
                Ok(Trigger(Why::Asked(reply))) => {
                    asked.0.push((Instant::now(), reply));
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
                        if catch_unwind(AssertUnwindSafe(|| self.keep_again())).is_err() {
                            tracing::error!("{FAILED}");
                        }
                    }
                }
            }
            if settle.due().is_some_and(|due| due <= Instant::now()) {
                settle.looked();
                let cause = match (asked.0.is_empty(), hangup) {
                    (false, _) => Cause::Asked,
                    (true, true) => Cause::Signal,
                    (true, false) => Cause::Edit,
                };
                // With the daemon's own file the policy's are read too: what came of it then holds for both.
                if cause != Cause::Edit || self.changed() || self.config_changed() {
                    match self.load(cause) {
                        Some(outcome) => {
                            hangup = false;
                            let outcome = Arc::new(outcome);
                            self.reloads.publish(Arc::clone(&outcome));
                            asked.answer(&outcome, Duration::ZERO);
                        }
                        None => settle.changed(Instant::now(), Change::Unseen),
                    }
                }
            }
            if asked.is_overdue() {
                let policy = self.targets.snapshots.load();
                let mut unsettled = Outcome::new(Ending::Unsettled, Cause::Asked, Some(&policy));
                unsettled.since = Some(self.reloads.in_force_since());
                asked.answer(&Arc::new(unsettled), PATIENCE);
            }
            self.retired.retain(|policy| Arc::strong_count(policy) > 1);
            self.new_day();
        }
    }

    /// Loads the daemon's file and the policy. Nothing where the files changed meanwhile.
    fn load(&mut self, cause: Cause) -> Option<Outcome> {
        if self.signature().bytes() < LARGE {
            return self.load_here(cause);
        }
        let loaded = std::thread::scope(|scope| {
            let calmly = || {
                // Where it may not, it loads all the same.
                let _ = rustix::process::setpriority_process(None, NICE);
                self.load_here(cause)
            };
            let thread = std::thread::Builder::new().name("reload-large".into());
            thread.spawn_scoped(scope, calmly).ok()?.join().ok()
        });
        // Where nobody gives a thread, this one does it.
        loaded.unwrap_or_else(|| self.load_here(cause))
    }

    /// Does it on this thread, and tells the service manager.
    fn load_here(&mut self, cause: Cause) -> Option<Outcome> {
        let begun = Instant::now();
        self.targets.manager.reloading();
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let (loaded, origin) = load_whole(&self.daemon.policy)?;
            let mut outcome = Outcome::new(Ending::InForce, cause, None);
            self.daemon_file(&mut outcome);
            self.loaded = origin.signature;
            self.lists = origin.lists;
            // First, so that an edit that follows on the heels of this one is seen at once.
            let now = self.signature();
            self.rewatch(&now);
            let told = std::mem::replace(&mut self.passing, loaded.passing);
            // What cannot be read for a moment is read again and again, and told once.
            if cause == Cause::Edit && told && loaded.passing {
                outcome.outcome = Ending::Refused;
                outcome.found(&loaded.diagnostics, &loaded.sources);
            } else {
                self.put_in_force(loaded, &mut outcome);
            }
            outcome.policy = Some(InForce::of(&self.targets.snapshots.load()));
            Some(outcome)
        }));
        let outcome = loaded.unwrap_or_else(|_| {
            tracing::error!("{FAILED}");
            // Not read again and again: with the next edit.
            self.loaded = self.signature();
            self.config = self.config_signature();
            Some(Outcome::new(Ending::Failed, cause, Some(&self.targets.snapshots.load())))
        });
        self.targets.manager.ready();
        if outcome.is_none() {
            tracing::debug!("the policy's files changed while they were read");
        }
        outcome.map(|mut outcome| {
            outcome.ended(begun);
            let is_new = outcome.before.is_some();
            outcome.since = Some(if is_new { outcome.at } else { self.reloads.in_force_since() });
            outcome
        })
    }

    fn config_signature(&self) -> Signature {
        Signature::of(&[], std::slice::from_ref(&self.config_path))
    }

    fn config_changed(&self) -> bool {
        self.config != self.config_signature()
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

    fn put_in_force(&mut self, mut loaded: Loaded, outcome: &mut Outcome) {
        tell(&loaded);
        let old = self.targets.snapshots.load();
        let kept = last_good::Kept::of(&loaded.sources, loaded.policy_files);
        let Some(policy) = loaded.policy.take() else {
            outcome.outcome = Ending::Refused;
            outcome.found(&loaded.diagnostics, &loaded.sources);
            let found = loaded.diagnostics.summary().unwrap_or_default();
            tracing::error!(policy = %old.fingerprint(), found, "policy refused: the one in force stays");
            return;
        };
        let new = Arc::new(policy);
        self.targets.metrics.expect(&new);
        let retired = self.targets.snapshots.swap(Arc::clone(&new));
        // Said when it is so: whoever acts on these lines must not meet the policy before.
        let changes = diff(&old, &new);
        for change in changes.iter().take(TOLD) {
            tracing::info!("{change}");
        }
        if changes.len() > TOLD {
            tracing::info!("… and {} changes more", changes.len() - TOLD);
        }
        let meaning = if changes.is_empty() { "the same in meaning" } else { "changed" };
        tracing::info!(policy = %new.fingerprint(), rules = new.rules().len(), meaning, "policy in force");
        tell_unasked(&self.daemon, &new, &mut loaded.diagnostics);
        outcome.found(&loaded.diagnostics, &loaded.sources);
        if old.fingerprint() != new.fingerprint() {
            outcome.before = Some(old.fingerprint().to_string());
        }
        outcome.further_changes = changes.len().saturating_sub(TOLD);
        outcome.changes = changes;
        outcome.changes.truncate(TOLD);
        drop(old);
        self.retired.push(retired);
        self.unkept = last_good::save(&self.daemon.state, kept);
        self.kept_again = Instant::now();
    }

    /// A copy of the last good policy that could not be kept, or is there no more, is made as soon as it can be.
    fn keep_again(&mut self) {
        if self.kept_again.elapsed() < KEEP_AGAIN
            || (self.unkept.is_none() && last_good::is_there(&self.daemon.state))
        {
            return;
        }
        self.kept_again = Instant::now();
        let kept = self.unkept.take().or_else(|| {
            // Its texts are those of the files, as long as these mean what is in force.
            let (loaded, _) = load_whole(&self.daemon.policy)?;
            let in_force = self.targets.snapshots.load();
            let same = loaded.policy.is_some_and(|policy| policy.fingerprint() == in_force.fingerprint());
            same.then(|| last_good::Kept::of(&loaded.sources, loaded.policy_files))
        });
        self.unkept = kept.and_then(|kept| last_good::save_again(&self.daemon.state, kept));
    }

    /// The daemon's own file changed: what can change while it runs does.
    fn daemon_file(&mut self, outcome: &mut Outcome) {
        let changed = self.config_changed();
        if !changed && outcome.cause == Cause::Edit {
            return;
        }
        if std::fs::File::open(&self.config_path).is_err_and(|error| is_passing(&error)) {
            // Nothing is known of what it says now; it is looked at again.
            return;
        }
        self.config = self.config_signature();
        let read = daemon_file::read(&self.config_path);
        for (severity, line) in read.diagnostics.lines(&read.sources) {
            say(severity, &line);
        }
        outcome.found(&read.diagnostics, &read.sources);
        let Some(new) = read.daemon else {
            const BROKEN: &str = "the daemon's file is broken: its settings stay as they are";
            tracing::error!("{BROKEN}");
            outcome.outcome = Ending::Refused;
            outcome.notes.push(BROKEN.to_owned());
            return;
        };
        if new.log != self.daemon.log {
            self.targets.log.switch(&self.daemon.log, &new.log);
            self.daemon.log.clone_from(&new.log);
            outcome.notes.push("the log's settings have changed".to_owned());
        }
        if new != self.daemon {
            const LATER: &str =
                "settings other than those of [log] have changed: they are taken at the next start";
            tracing::warn!(file = %self.config_path.display(), "{LATER}");
            outcome.notes.push(LATER.to_owned());
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
