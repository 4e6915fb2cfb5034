//! One turn of a server: sessions for a while, and what they cost it.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::load::engine::{Engine, Manner};
use crate::load::tally::Tally;
use crate::population::{Mix, client};
use crate::servers::Server;

/// What the load is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) pace: Option<u32>,
    pub(crate) frame_by_frame: bool,
    pub(crate) mix: Mix,
    /// How long it goes on; a tenth more before is not counted.
    pub(crate) lasts: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) took: Duration,
    /// Processor time of the server, until all of these sessions and those that were begun meanwhile were ended, and their
    /// decisions written: nothing is cheap because it is done later.
    used: Duration,
    /// Processor time of the load itself.
    own: Duration,
    pub(crate) tally: Tally,
    /// What ended after that.
    after: Tally,
    /// How long it would have taken to decide what was decided, and not yet written at the end of it: a daemon that only
    /// puts off what it has to do is found out. 0 of one that writes nothing.
    pub(crate) behind: Duration,
}

/// Messages, where a session has many of them, else sessions.
fn count(tally: &Tally, mix: Mix) -> f64 {
    (if mix.messages > 1 { tally.messages } else { tally.sessions }).max(1) as f64
}

impl Turn {
    pub(crate) fn a_second(&self, mix: Mix) -> f64 {
        count(&self.tally, mix) / self.took.as_secs_f64()
    }

    /// Microseconds of processor time for each.
    pub(crate) fn used_each(&self, mix: Mix) -> f64 {
        self.used.as_secs_f64() * 1e6 / (count(&self.tally, mix) + count(&self.after, mix))
    }

    /// The same of the load itself.
    pub(crate) fn own_each(&self, mix: Mix) -> f64 {
        self.own.as_secs_f64() * 1e6 / count(&self.tally, mix)
    }

    /// Microseconds in which so many of a thousand MAILs were answered.
    pub(crate) fn mail_within(&self, per_mille: u16) -> f64 {
        self.tally.mail.within(per_mille).as_secs_f64() * 1e6
    }
}

/// The processor time of this thread.
fn own_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Plays it; a wrong answer ends the program.
pub(crate) fn play(server: &Server, load: Load) -> Turn {
    play_until(server, load, || ())
}

/// Plays it, and tells of a wrong answer.
pub(crate) fn try_to_play(server: &Server, load: Load) -> Result<Turn, String> {
    measure(server, load, || ())
}

/// The same, and lets somebody know when the time is over.
pub(crate) fn play_until(server: &Server, load: Load, is_over: impl FnOnce()) -> Turn {
    measure(server, load, is_over)
        .unwrap_or_else(|fault| panic!("{}: {fault}\n{}", server.kind.name(), server.log()))
}

fn measure(server: &Server, load: Load, is_over: impl FnOnce()) -> Result<Turn, String> {
    let targets = [server.target.clone()];
    let manner = Manner {
        targets: &targets,
        connections: load.connections,
        pace: load.pace,
        frame_by_frame: load.frame_by_frame,
        may_cut: false,
    };
    let mut next = 0;
    let sessions = || {
        next += 1;
        Some((next, client(0x7365_7373, next, load.mix)))
    };
    let mut engine = Engine::new(manner, sessions, Tally::default()).unwrap();
    let end = Instant::now() + load.lasts / 10;
    engine.run(|| Instant::now() >= end)?;
    let before = std::mem::take(&mut engine.tally);
    let (begun, used, own) = (Instant::now(), server.used(), own_time());
    engine.run(|| begun.elapsed() >= load.lasts)?;
    let (took, own, written) = (begun.elapsed(), own_time().saturating_sub(own), server.written());
    let tally = std::mem::take(&mut engine.tally);
    is_over();
    engine.finish()?;
    let after = engine.tally;
    let in_time = before.decided() + tally.decided();
    let all = in_time + after.decided();
    let size = server.settle(all);
    let used = server.used().saturating_sub(used);
    // Their lines are of much the same length.
    let missing = in_time as f64 - all as f64 * (written as f64 / size.max(1) as f64).min(1.0);
    let rate = tally.decided().max(1) as f64 / took.as_secs_f64();
    let behind = Duration::from_secs_f64(if server.is_daemon() { missing.max(0.0) / rate } else { 0.0 });
    Ok(Turn { took, used, own, tally, after, behind })
}
