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
    /// Processor time of the server.
    pub(crate) used: Duration,
    /// Processor time of the load itself.
    own: Duration,
    pub(crate) tally: Tally,
}

impl Turn {
    /// Messages, where a session has many of them, else sessions.
    fn count(&self, mix: Mix) -> f64 {
        (if mix.messages > 1 { self.tally.messages } else { self.tally.sessions }).max(1) as f64
    }

    pub(crate) fn a_second(&self, mix: Mix) -> f64 {
        self.count(mix) / self.took.as_secs_f64()
    }

    /// Microseconds of processor time for each.
    pub(crate) fn used_each(&self, mix: Mix) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.count(mix)
    }

    /// The same of the load itself.
    pub(crate) fn own_each(&self, mix: Mix) -> f64 {
        self.own.as_secs_f64() * 1e6 / self.count(mix)
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
    let (took, used, own) =
        (begun.elapsed(), server.used().saturating_sub(used), own_time().saturating_sub(own));
    let tally = std::mem::take(&mut engine.tally);
    is_over();
    engine.finish()?;
    server.settle(before.decided() + tally.decided() + engine.tally.decided());
    Ok(Turn { took, used, own, tally })
}
