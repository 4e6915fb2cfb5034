//! The scenarios: which servers, which load, and the ratios that are asked of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::load::dialect::Dialects;
use crate::load::session::{Asked, Out, Session};
use crate::load::tally::Tally;
use crate::load::wire::Wire;
use crate::population::{Mix, client, list};
use crate::report::{Bound, Outcome, Ratio, Row, median};
use crate::servers::{Kind, Server, Way};
use crate::turn::{Load, Turn, play, play_until};

/// How large all of it is.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// How long a turn goes on.
    pub(crate) turn: Duration,
    pub(crate) rounds: usize,
    pub(crate) connections: Vec<usize>,
    pub(crate) keys: u64,
    pub(crate) many_keys: u64,
    /// Connections that are held and do nothing.
    pub(crate) idle: usize,
    /// Another build of the daemon.
    pub(crate) other: Option<PathBuf>,
    /// Each frame in a write of its own over unix sockets too.
    pub(crate) frame_by_frame: bool,
}

impl Scale {
    pub(crate) fn whole() -> Self {
        Self {
            turn: Duration::from_secs(2),
            rounds: 5,
            connections: vec![1, 16, 128, 1000],
            keys: 100_000,
            many_keys: 1_000_000,
            idle: 10_000,
            other: None,
            frame_by_frame: false,
        }
    }

    /// To see that all of it works.
    pub(crate) fn quick() -> Self {
        Self {
            turn: Duration::from_millis(200),
            rounds: 1,
            connections: vec![1, 16, 128],
            keys: 2_000,
            many_keys: 20_000,
            idle: 200,
            ..Self::whole()
        }
    }

    fn mix(&self) -> Mix {
        Mix { keys: self.keys, refused: 20, messages: 1 }
    }

    fn load(&self, connections: usize, mix: Mix) -> Load {
        Load { connections, pace: None, frame_by_frame: self.frame_by_frame, mix, lasts: self.turn }
    }

    fn kinds(&self) -> Vec<Kind> {
        let other = self.other.clone().map(Kind::Other);
        [Kind::Ours].into_iter().chain(other).chain([Kind::Libmilter, Kind::Tokio]).collect()
    }
}

/// One of them.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Scale) -> Outcome,
}

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "sessions",
        about: "short sessions, one message each, over a unix socket",
        run: sessions,
    },
    Scenario { name: "refused", about: "the same, every tenth refused at RCPT", run: refused },
    Scenario { name: "messages", about: "twenty messages in each session", run: messages },
    Scenario { name: "tcp", about: "over TCP, written as sendmail does, one connection", run: tcp },
    Scenario { name: "growth", about: "the daemon with ever more keys", run: growth },
    Scenario { name: "idle", about: "connections that are held and do nothing", run: idle },
    Scenario {
        name: "reload",
        about: "loads of a large policy, one after the other, under a paced load",
        run: reload,
    },
];

/// The file of so many keys, and the folder that it goes away with.
pub(crate) fn keys_file(keys: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::Builder::new().prefix("keys-").tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    fs::write(&file, list(keys)).unwrap();
    (folder, file)
}

fn started(scale: &Scale, way: Way, file: &Path, with: impl Fn(&Kind) -> bool) -> Vec<Server> {
    let kinds = scale.kinds().into_iter().filter(with);
    kinds.map(|kind| Server::start(kind, way, file)).collect()
}

/// All turns of all servers at one load, round by round.
struct Turns {
    load: Load,
    of: Vec<(Kind, Vec<Turn>)>,
}

fn by_turns(servers: &[Server], load: Load, rounds: usize) -> Turns {
    let mut of: Vec<(Kind, Vec<Turn>)> =
        servers.iter().map(|server| (server.kind.clone(), Vec::new())).collect();
    for round in 0..rounds {
        for at in 0..servers.len() {
            // Not always behind the same one.
            let at = (at + round) % servers.len();
            of[at].1.push(play(&servers[at], load));
        }
    }
    Turns { load, of }
}

type Figure = fn(&Turn, Mix) -> f64;

const SPEED: Figure = |turn, mix| turn.a_second(mix);
const COST: Figure = |turn, mix| turn.used_each(mix);
const PROMPT: Figure = |turn, _| turn.mail_within(990);

impl Turns {
    fn rows(&self, scenario: &'static str) -> impl Iterator<Item = Row> {
        self.of.iter().map(move |(kind, turns)| row(scenario, kind.name().to_owned(), self.load, turns))
    }

    fn turns(&self, kind: &Kind) -> Option<&[Turn]> {
        self.of.iter().find(|(of, _)| of == kind).map(|(_, turns)| turns.as_slice())
    }

    /// The figure of ours divided by theirs, in each round; the median of that.
    fn ratio(&self, what: &str, figure: Figure, to: &Kind, bound: Option<Bound>) -> Option<Ratio> {
        let (ours, theirs) = (self.turns(&Kind::Ours)?, self.turns(to)?);
        let name = format!("{what}, ours to {}, {} connections", to.name(), self.load.connections);
        Some(Ratio { name, value: quotient(ours, theirs, figure, self.load.mix), bound })
    }

    /// Against another build of the daemon nothing is asked for.
    fn to_other(&self) -> impl Iterator<Item = Ratio> {
        let other = self.of.iter().map(|(kind, _)| kind).find(|kind| matches!(kind, Kind::Other(_)));
        let figures: [(&str, Figure); 3] = [("a second", SPEED), ("CPU", COST), ("p99 of MAIL", PROMPT)];
        other.into_iter().flat_map(move |other| {
            figures.into_iter().filter_map(|(what, figure)| self.ratio(what, figure, other, None))
        })
    }
}

fn row(scenario: &'static str, server: String, load: Load, turns: &[Turn]) -> Row {
    let of = |figure: &dyn Fn(&Turn) -> f64| median(turns.iter().map(figure));
    Row {
        scenario,
        server,
        connections: load.connections,
        per: if load.mix.messages > 1 { "message" } else { "session" },
        a_second: of(&|turn| turn.a_second(load.mix)),
        used: of(&|turn| turn.used_each(load.mix)),
        own: of(&|turn| turn.own_each(load.mix)),
        behind: of(&|turn| turn.behind.as_secs_f64() * 1e3),
        half: of(&|turn| turn.mail_within(500)),
        most: of(&|turn| turn.mail_within(990)),
    }
}

fn quotient(of: &[Turn], to: &[Turn], figure: Figure, mix: Mix) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| figure(of, mix) / figure(to, mix)))
}

fn sessions(scale: &Scale) -> Outcome {
    let (_folder, file) = keys_file(scale.keys);
    let servers = started(scale, Way::Unix, &file, |_| true);
    let mut outcome = Outcome::default();
    for connections in scale.connections.clone() {
        let turns = by_turns(&servers, scale.load(connections, scale.mix()), scale.rounds);
        outcome.rows.extend(turns.rows("sessions"));
        let many = connections >= 16;
        let prompt = if many { Bound::Below(1.0) } else { Bound::AtMost(1.5) };
        outcome.ratios.extend(
            [
                turns.ratio("a second", SPEED, &Kind::Libmilter, many.then_some(Bound::AtLeast(1.8))),
                turns.ratio("a second", SPEED, &Kind::Tokio, many.then_some(Bound::AtLeast(0.6))),
                turns.ratio("CPU", COST, &Kind::Libmilter, Some(Bound::Below(0.5))),
                turns.ratio("CPU", COST, &Kind::Tokio, None),
                turns.ratio("p99 of MAIL", PROMPT, &Kind::Libmilter, Some(prompt)),
            ]
            .into_iter()
            .flatten(),
        );
        outcome.ratios.extend(turns.to_other());
    }
    outcome
}

/// One load at 16 connections, against all servers.
fn at_sixteen(scale: &Scale, scenario: &'static str, mix: Mix) -> Outcome {
    let (_folder, file) = keys_file(scale.keys);
    let servers = started(scale, Way::Unix, &file, |_| true);
    let turns = by_turns(&servers, scale.load(16, mix), scale.rounds);
    let figures: [(&str, Figure); 3] = [("a second", SPEED), ("CPU", COST), ("p99 of MAIL", PROMPT)];
    let mut outcome = Outcome { rows: turns.rows(scenario).collect(), ..Outcome::default() };
    for to in [Kind::Libmilter, Kind::Tokio] {
        outcome
            .ratios
            .extend(figures.iter().filter_map(|(what, figure)| turns.ratio(what, *figure, &to, None)));
    }
    outcome.ratios.extend(turns.to_other());
    outcome
}

fn refused(scale: &Scale) -> Outcome {
    at_sixteen(scale, "refused", Mix { refused: 100, ..scale.mix() })
}

fn messages(scale: &Scale) -> Outcome {
    at_sixteen(scale, "messages", Mix { messages: 20, ..scale.mix() })
}

fn tcp(scale: &Scale) -> Outcome {
    let (_folder, file) = keys_file(scale.keys);
    let servers = started(scale, Way::Tcp, &file, |kind| *kind != Kind::Tokio);
    let load = Load { frame_by_frame: true, ..scale.load(1, scale.mix()) };
    let turns = by_turns(&servers, load, scale.rounds);
    let ratio = turns.ratio("a second over TCP", SPEED, &Kind::Libmilter, Some(Bound::AtLeast(100.0)));
    let mut outcome = Outcome { rows: turns.rows("tcp").collect(), ..Outcome::default() };
    outcome.ratios.extend(ratio);
    outcome.ratios.extend(turns.to_other());
    outcome
}

fn growth(scale: &Scale) -> Outcome {
    let sizes = [10, scale.keys, scale.many_keys];
    let files = sizes.map(keys_file);
    let servers = files.each_ref().map(|(_, file)| Server::start(Kind::Ours, Way::Unix, file));
    let mix = |keys| Mix { keys, ..scale.mix() };
    let load = scale.load(16, scale.mix());
    let mut turns: [Vec<Turn>; 3] = Default::default();
    let mut crowded = Vec::new();
    let crowd = Load { connections: 1000, ..load };
    for _ in 0..scale.rounds {
        for ((server, turns), keys) in servers.iter().zip(&mut turns).zip(sizes) {
            turns.push(play(server, Load { mix: mix(keys), ..load }));
        }
        crowded.push(play(&servers[1], crowd));
    }
    let mut outcome = Outcome::default();
    for (turns, keys) in turns.iter().zip(sizes) {
        outcome.rows.push(row("growth", format!("ours, {keys} keys"), load, turns));
    }
    outcome.rows.push(row("growth", format!("ours, {} keys", scale.keys), crowd, &crowded));
    let cost = |of: &[Turn], to: &[Turn]| quotient(of, to, COST, scale.mix());
    outcome.ratios.push(Ratio {
        name: format!("CPU, {} keys to 10, 16 connections", scale.many_keys),
        value: cost(&turns[2], &turns[0]),
        bound: Some(Bound::AtMost(1.1)),
    });
    outcome.ratios.push(Ratio {
        name: format!("CPU, 1000 connections to 16, {} keys", scale.keys),
        value: cost(&crowded, &turns[1]),
        bound: Some(Bound::AtMost(1.3)),
    });
    outcome
}

fn idle(scale: &Scale) -> Outcome {
    let (_folder, file) = keys_file(scale.keys);
    let limit = scale.idle as u64 + 500;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(limit), hard.max(limit))
        .expect("more descriptors: run it as root, or raise the limit");
    let server = Server::start(Kind::Ours, Way::Unix, &file);
    // All that is made once is there.
    play(&server, scale.load(16, scale.mix()));
    let (before, descriptors) = (server.memory(), server.descriptors());

    let mix = Mix { refused: 1000, ..scale.mix() };
    let (mut dialects, mut out, mut tally) = (Dialects::default(), Out::default(), Tally::default());
    let mut held = Vec::new();
    let mut go_on = |wire: &mut Wire, session: &mut Session, out: &mut Out| {
        let reply = wire.reply().unwrap();
        out.clear();
        session.answered((reply.kind, &reply.payload), &mut dialects, out, &mut tally).unwrap();
    };
    for number in 0..scale.idle as u64 {
        let mut wire = Wire::connect(&server.target).unwrap();
        out.clear();
        let mut session = Session::begin(client(7, number, mix), &Dialects::default(), &mut out);
        wire.bytes(&out.bytes).unwrap();
        go_on(&mut wire, &mut session, &mut out);
        held.push((wire, session, out.bytes.clone()));
    }
    let negotiated = server.memory();
    for (wire, session, mail) in &mut held {
        assert_eq!(session.asked(), Asked::Mail);
        wire.bytes(mail).unwrap();
        go_on(wire, session, &mut out);
        assert_eq!(session.asked(), Asked::Rcpt, "a message that is to be refused stays open");
    }
    let in_message = server.memory();
    drop(held);
    // Each of them would have been refused, and is written down at its end.
    server.settle(scale.idle as u64);
    wait("the connections to be gone", || server.descriptors() <= descriptors + 2);
    // An allocator may take its time.
    let took = in_message.saturating_sub(before).max(1);
    let enough = |after: u64| after.saturating_sub(before) * 10 <= took;
    let end = Instant::now() + Duration::from_secs(5);
    while !enough(server.memory()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    let after = server.memory();

    let each = |memory: u64| memory.saturating_sub(before) as f64 / scale.idle as f64;
    let kept = after.saturating_sub(before) as f64 / took as f64;
    let ratio = |name: &str, value, bound| Ratio {
        name: format!("{name}, {} connections", scale.idle),
        value,
        bound: Some(bound),
    };
    Outcome {
        notes: vec![format!(
            "idle: {before} KiB before, {negotiated} with {} connections after the negotiation, {in_message} each with a \
             message, {after} when they have closed",
            scale.idle
        )],
        ratios: vec![
            ratio("KiB for a connection after the negotiation", each(negotiated), Bound::AtMost(21.0)),
            ratio("KiB for a connection with a message", each(in_message), Bound::AtMost(21.0)),
            ratio("part of that which is kept when they close", kept, Bound::AtMost(0.1)),
        ],
        ..Outcome::default()
    }
}

fn reload(scale: &Scale) -> Outcome {
    let (_folder, file) = keys_file(scale.many_keys);
    let server = Server::start(Kind::Ours, Way::Unix, &file);
    let mix = Mix { keys: scale.many_keys, ..scale.mix() };
    let load = Load { pace: Some(2000), ..scale.load(16, mix) };
    let (mut quiet, mut loading, mut loads) = (Vec::new(), Vec::new(), 0);
    for _ in 0..scale.rounds {
        quiet.push(play(&server, load));
        let over = AtomicBool::new(false);
        loading.push(thread::scope(|scope| {
            let loader = scope.spawn(|| load_again_and_again(&server, &file, &over));
            play_until(&server, load, || {
                over.store(true, Ordering::Relaxed);
                loads += loader.join().unwrap();
            })
        }));
    }
    let cost = quotient(&loading, &quiet, PROMPT, mix);
    Outcome {
        rows: vec![
            row("reload", "ours, no loads".to_owned(), load, &quiet),
            row("reload", "ours, loading".to_owned(), load, &loading),
        ],
        ratios: vec![Ratio {
            name: format!(
                "p99 of MAIL, while {} keys are loaded to without, 2000 sessions/s",
                scale.many_keys
            ),
            value: cost,
            bound: Some(Bound::AtMost(1.5)),
        }],
        notes: vec![format!("reload: {loads} loads in {} turns of {:?}", scale.rounds, scale.turn)],
    }
}

/// One load begins when the last one has ended. Gives how many there were.
fn load_again_and_again(server: &Server, file: &Path, over: &AtomicBool) -> usize {
    let mut loads = 0;
    while !over.load(Ordering::Relaxed) {
        let said = server.said();
        fs::File::options()
            .append(true)
            .open(file)
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        server.signal(Signal::SIGHUP);
        wait("a policy to be in force", || server.has_loaded_since(said));
        loads += 1;
    }
    loads
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "waited a minute for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
