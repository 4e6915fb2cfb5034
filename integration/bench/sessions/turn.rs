//! One turn of a server: sessions for a while, and what they cost it.

use std::time::{Duration, Instant};

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
    pub(crate) tally: Tally,
}

impl Turn {
    pub(crate) fn sessions_a_second(&self) -> f64 {
        self.tally.sessions as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of processor time for each session.
    pub(crate) fn used_each(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.tally.sessions.max(1) as f64
    }

    /// Microseconds in which so many of a thousand MAILs were answered.
    pub(crate) fn mail_within(&self, per_mille: u16) -> f64 {
        self.tally.mail.within(per_mille).as_secs_f64() * 1e6
    }
}

/// Plays it; a wrong answer ends the program.
pub(crate) fn play(server: &Server, load: Load) -> Turn {
    play_while(server, load, || ())
}

/// The same, while something is done again and again on this thread's side.
pub(crate) fn play_while(server: &Server, load: Load, mut meanwhile: impl FnMut()) -> Turn {
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
    let told = |fault: String| panic!("{}: {fault}\n{}", server.kind.name(), server.log());
    let end = Instant::now() + load.lasts / 10;
    engine.run(|| Instant::now() >= end).unwrap_or_else(told);
    let before = std::mem::take(&mut engine.tally);
    let (begun, used) = (Instant::now(), server.used());
    engine
        .run(|| {
            meanwhile();
            begun.elapsed() >= load.lasts
        })
        .unwrap_or_else(told);
    let (took, used) = (begun.elapsed(), server.used() - used);
    let tally = std::mem::take(&mut engine.tally);
    engine.finish().unwrap_or_else(told);
    server.settle(before.decided() + tally.decided() + engine.tally.decided());
    Turn { took, used, tally }
}
