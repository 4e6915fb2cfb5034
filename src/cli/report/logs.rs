//! Logs to evidence: what is replayed is counted in a store in memory, and asked there as the daemon's is.

use crate::cli::replaying::Watch;
use crate::evidence::writer::Settings;
use crate::evidence::{Observed, Rollup, Store, StoreError};
use crate::policy::Policy;
use crate::policy::decide::decide;
use crate::policy::lookup::Index;
use crate::policy::record::Record;
use crate::policy::rule::Exempt;
use crate::replay::{Audience, Options, Origin, Problem, Replay};
use jiff::tz::TimeZone;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What came of logs.
pub(super) struct Read {
    pub(super) store: Store,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
    pub(super) code: u8,
}

/// Reads logs, and judges them by a policy where there is one.
pub(super) fn read(
    logs: &[PathBuf],
    policy: Option<&Policy>,
    now: jiff::Timestamp,
    zone: TimeZone,
) -> Result<Read, StoreError> {
    let mut counting = Counting {
        policy,
        nobody: nobody(),
        now,
        rollup: Rollup::new(Settings::default().max_peers),
        watch: Watch::new(false),
        timeless: 0,
    };
    let judges = |by: fn(&Policy) -> bool| policy.is_some_and(by);
    let options = Options {
        recipients: judges(Policy::judges_recipients),
        deliveries: judges(Policy::judges_deliveries),
        zone,
        reference: now,
    };
    let mut replay = Replay::new(logs, options, &mut counting);
    counting.watch.begin(replay.total());
    let tally = replay.run(&mut counting);
    counting.watch.end();
    let mut store = Store::memory()?;
    store.add(&counting.rollup)?;
    let mut notes = tally.notes();
    if counting.timeless > 0 {
        notes.push(format!("{} records tell no time, and are not counted", counting.timeless));
    }
    Ok(Read { store, notes, code: counting.watch.code() })
}

/// No rules, and only persons are exempt: who connects from this very host or sends to postmaster is counted as
/// everyone, for nobody has said otherwise.
fn nobody() -> Policy {
    let exempt = Exempt { authenticated: true, networks: Vec::new(), recipients: Vec::new() };
    Policy::new(Vec::new(), Index::default(), exempt, None)
}

/// Counts what is replayed.
struct Counting<'p> {
    policy: Option<&'p Policy>,
    /// No rules: what judges messages that nobody judged.
    nobody: Policy,
    now: jiff::Timestamp,
    rollup: Rollup,
    watch: Watch,
    /// Records that tell no time: on no day.
    timeless: u64,
}

impl Audience for Counting<'_> {
    fn record(&mut self, _: Origin, record: &Record<'_>) -> ControlFlow<()> {
        let Some(ts) = record.ts else {
            self.timeless += 1;
            return ControlFlow::Continue(());
        };
        let recorded = if self.policy.is_none() { Observed::of_record(record) } else { None };
        let observed = recorded.unwrap_or_else(|| {
            let facts = record.facts();
            let policy = self.policy.unwrap_or(&self.nobody);
            let decision = decide(policy, &facts, record.envelope(), record.day(self.now));
            Observed::of(&facts, &decision, ts)
        });
        self.rollup.observe(&observed);
        ControlFlow::Continue(())
    }

    fn progress(&mut self, bytes: u64) {
        self.watch.progress(bytes);
    }

    fn problem(&mut self, problem: Problem) {
        self.watch.problem(&problem);
    }
}
