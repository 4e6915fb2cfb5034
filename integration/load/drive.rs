//! Sessions of a seed, one after the other over many connections.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::engine::{Engine, Manner};
use super::script::Script;
use super::tally::Tally;
use super::wire::Target;

/// How much of it.
pub(crate) struct Plan<'a> {
    pub(crate) targets: &'a [Target],
    /// From which seed the sessions are made.
    pub(crate) seed: u64,
    /// How many sessions there are at once, each in a connection of its own.
    pub(crate) connections: usize,
    /// The sessions to be played: their numbers are counted up here, over several runs of a plan.
    pub(crate) next: &'a AtomicU64,
    /// The number at which it ends.
    pub(crate) until: u64,
    /// Ends it before that.
    pub(crate) over: &'a AtomicBool,
    /// Whether the milter may cut connections, or not be there at all.
    pub(crate) may_cut: bool,
    /// Whether everything that is said is kept.
    pub(crate) keeps: bool,
}

/// Plays it to its end; the first wrong answer ends it.
pub(crate) fn drive(plan: &Plan<'_>) -> Result<Tally, String> {
    let manner = Manner {
        targets: plan.targets,
        connections: plan.connections,
        pace: None,
        frame_by_frame: true,
        may_cut: plan.may_cut,
    };
    let tally = if plan.keeps { Tally::keeping() } else { Tally::default() };
    let sessions = || {
        let is_more = !plan.over.load(Ordering::Relaxed);
        let number = is_more.then(|| plan.next.fetch_add(1, Ordering::Relaxed))?;
        (number < plan.until).then(|| (number, Script::of(plan.seed, number).client()))
    };
    play_all(manner, sessions, tally)
}

/// Plays one session to its end; nothing of it may be wrong.
pub(crate) fn play(target: &Target, script: &Script, tally: Tally) -> Result<Tally, String> {
    let targets = std::slice::from_ref(target);
    let manner = Manner { targets, connections: 1, pace: None, frame_by_frame: true, may_cut: false };
    let mut one = Some((0, script.client()));
    play_all(manner, || one.take(), tally)
}

fn play_all(
    manner: Manner<'_>,
    sessions: impl FnMut() -> Option<(u64, super::session::Client)>,
    tally: Tally,
) -> Result<Tally, String> {
    let mut engine = Engine::new(manner, sessions, tally).map_err(|e| format!("an event queue: {e}"))?;
    engine.run(|| false)?;
    Ok(engine.tally)
}
