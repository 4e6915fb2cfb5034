//! Many sessions over many connections at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::script::Script;
use super::session::{Fault, Session};
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
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let (plan, failed) = (plan, &failed);
        let threads: Vec<_> = (0..plan.connections)
            .map(|at| scope.spawn(move || one_after_the_other(plan, at, failed)))
            .collect();
        let mut all = if plan.keeps { Tally::keeping() } else { Tally::default() };
        let mut fault = Ok(());
        for thread in threads {
            match thread.join().map_err(|_| "a session panicked".to_owned()).flatten() {
                Ok(tally) => all.add(tally),
                Err(words) => fault = fault.and(Err(words)),
            }
        }
        fault.map(|()| all)
    })
}

fn one_after_the_other(plan: &Plan<'_>, at: usize, failed: &AtomicBool) -> Result<Tally, String> {
    let mut tally = if plan.keeps { Tally::keeping() } else { Tally::default() };
    let target = plan.targets.get(at % plan.targets.len().max(1)).ok_or("nowhere to connect to")?;
    while !plan.over.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.until {
            break;
        }
        let script = Script::of(plan.seed, number);
        let played = Session::begin(target, &mut tally).and_then(|session| session.play(&script));
        match played {
            Ok(()) => tally.sessions += 1,
            Err(Fault::Cut(_)) if plan.may_cut => {
                tally.cut += 1;
                // Nobody may be there for a while; it is asked again, not hoped for.
                thread::sleep(Duration::from_millis(2));
            }
            Err(fault) => {
                failed.store(true, Ordering::Relaxed);
                return Err(match fault {
                    Fault::Wrong(words) => format!("session {number}: {words}"),
                    Fault::Cut(error) => format!("session {number} was cut: {error}"),
                });
            }
        }
    }
    Ok(tally)
}
