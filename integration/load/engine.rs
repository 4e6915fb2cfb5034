//! Many sessions at once on one thread: as fast as they go, or so many a second.
//!
//! Promises: next to no cost, for it shares the machine with what is measured: one thread, no wait but for events, one
//! write for what goes out together. A session is begun as soon as a connection is free for it, or when it is due; how
//! long one that was due had to wait for a connection counts into its answers' times. An answer that does not come in a
//! minute is a wrong one.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::dialect::Dialects;
use super::session::{Asked, Client, Out, Session, Step};
use super::tally::Tally;
use super::wire::{PATIENCE, Target, first_frame, is_cut};

/// How long it rests where nothing happens, before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);
/// How long after a connection that could not be made it is tried again.
const AGAIN: Duration = Duration::from_millis(2);

/// How the sessions go.
#[derive(Clone, Debug)]
pub(crate) struct Manner<'a> {
    /// Where to; one connection after the other.
    pub(crate) targets: &'a [Target],
    /// How many sessions there are at once, each in a connection of its own.
    pub(crate) connections: usize,
    /// So many begin each second; nothing: as fast as they go.
    pub(crate) pace: Option<u32>,
    /// Each frame in a write of its own, as sendmail writes it. For a milter that is the same but for TCP, where the second
    /// one waits for an acknowledgement, and for what it costs us.
    pub(crate) frame_by_frame: bool,
    /// Whether the milter may cut connections, or not be there at all.
    pub(crate) may_cut: bool,
}

/// Why it came to nothing.
#[derive(Debug)]
enum Fault {
    /// The milter was gone.
    Cut(io::Error),
    /// It answered, and not what it should.
    Wrong(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if is_cut(&error) { Self::Cut(error) } else { Self::Wrong(error.to_string()) }
    }
}

enum Stream {
    Unix(mio::net::UnixStream),
    Tcp(mio::net::TcpStream),
}

impl Stream {
    /// Nothing where too many wait to be accepted.
    fn connect(target: &Target) -> io::Result<Option<Self>> {
        match target {
            Target::Unix(path) => match mio::net::UnixStream::connect(path) {
                Ok(stream) => Ok(Some(Self::Unix(stream))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            Target::Tcp(address) => {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nonblocking(true)?;
                Ok(Some(Self::Tcp(mio::net::TcpStream::from_std(stream))))
            }
        }
    }

    fn register(&mut self, poll: &Poll, token: Token) -> io::Result<()> {
        match self {
            Self::Unix(stream) => poll.registry().register(stream, token, Interest::READABLE),
            Self::Tcp(stream) => poll.registry().register(stream, token, Interest::READABLE),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // What is sent before an answer is waited for has a place in every socket's buffer.
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
        }
    }
}

/// A connection, and the session on it.
struct Slot {
    stream: Stream,
    session: Session,
    number: u64,
    asked: Instant,
    /// How long it waited for a connection.
    waited: Duration,
    input: Vec<u8>,
}

/// A session that could not be begun yet.
struct Due {
    since: Instant,
    number: u64,
    client: Client,
}

/// The load.
pub(crate) struct Engine<'a, S> {
    manner: Manner<'a>,
    sessions: S,
    poll: Poll,
    events: Events,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    due: VecDeque<Due>,
    next_at: Instant,
    /// Whether there are no more sessions.
    exhausted: bool,
    /// Until when nobody is asked for a connection.
    rests_until: Option<Instant>,
    out: Out,
    dialects: Dialects,
    /// What came of it so far.
    pub(crate) tally: Tally,
}

impl<'a, S: FnMut() -> Option<(u64, Client)>> Engine<'a, S> {
    /// `sessions` gives the next session, and its number, as long as there are any.
    pub(crate) fn new(manner: Manner<'a>, sessions: S, tally: Tally) -> io::Result<Self> {
        let connections = manner.connections;
        Ok(Self {
            manner,
            sessions,
            poll: Poll::new()?,
            events: Events::with_capacity(connections.clamp(16, 4096)),
            slots: (0..connections).map(|_| None).collect(),
            free: (0..connections).rev().collect(),
            due: VecDeque::new(),
            next_at: Instant::now(),
            exhausted: false,
            rests_until: None,
            out: Out::default(),
            dialects: Dialects::default(),
            tally,
        })
    }

    /// Plays sessions until it is told that it is over; those that are under way stay so.
    pub(crate) fn run(&mut self, mut is_over: impl FnMut() -> bool) -> Result<(), String> {
        while !is_over() {
            self.begin_what_is_due()?;
            if self.exhausted && self.is_idle() {
                break;
            }
            self.take_answers()?;
        }
        Ok(())
    }

    /// Plays those that are under way to their ends.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.due.clear();
        while !self.is_idle() {
            self.take_answers()?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len() && self.due.is_empty()
    }

    fn begin_what_is_due(&mut self) -> Result<(), String> {
        if let Some(pace) = self.manner.pace {
            let now = Instant::now();
            while !self.exhausted && self.next_at <= now {
                self.next_at += Duration::from_secs(1) / pace.max(1);
                self.put_due();
            }
        }
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.rests_until = None;
        while self.rests_until.is_none() && !self.free.is_empty() {
            if self.due.is_empty() && self.manner.pace.is_none() && !self.exhausted {
                self.put_due();
            }
            let Some(due) = self.due.pop_front() else { break };
            self.begin(due)?;
        }
        Ok(())
    }

    fn put_due(&mut self) {
        match (self.sessions)() {
            Some((number, client)) => self.due.push_back(Due { since: Instant::now(), number, client }),
            None => self.exhausted = true,
        }
    }

    fn begin(&mut self, due: Due) -> Result<(), String> {
        let Some(at) = self.free.pop() else { return Ok(()) };
        let target = self.manner.targets.get(at % self.manner.targets.len().max(1));
        let target = target.ok_or("nowhere to connect to")?;
        let number = due.number;
        let begun = match Stream::connect(target) {
            Ok(Some(stream)) => self.begin_on(stream, at, due),
            Ok(None) => {
                self.rest();
                self.due.push_front(due);
                self.free.push(at);
                return Ok(());
            }
            Err(error) => Err(error.into()),
        };
        begun.or_else(|fault| self.ended_by(at, number, fault))
    }

    fn begin_on(&mut self, mut stream: Stream, at: usize, due: Due) -> Result<(), Fault> {
        stream.register(&self.poll, Token(at))?;
        self.out.clear();
        let session = Session::begin(due.client, &self.dialects, &mut self.out);
        let asked = Instant::now();
        let waited = asked.saturating_duration_since(due.since);
        let mut slot = Slot { stream, session, number: due.number, asked, waited, input: Vec::new() };
        send(&mut slot.stream, &self.out, self.manner.frame_by_frame)?;
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
        }
        Ok(())
    }

    fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + AGAIN);
    }

    /// Waits for events, and goes on with the sessions that they are of.
    fn take_answers(&mut self) -> Result<(), String> {
        let until_next = |at: Instant| at.saturating_duration_since(Instant::now());
        let mut wait = LOOK;
        if self.manner.pace.is_some() {
            wait = wait.min(until_next(self.next_at));
        }
        if let Some(until) = self.rests_until {
            wait = wait.min(until_next(until));
        }
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(|e| format!("waiting for answers: {e}"))?,
        }
        if self.events.is_empty() {
            return self.look_for_silence();
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut outcome = Ok(());
        for event in &events {
            let at = event.token().0;
            let Some(mut slot) = self.slots.get_mut(at).and_then(Option::take) else { continue };
            match self.go_on(&mut slot) {
                Ok(true) => {
                    if let Some(place) = self.slots.get_mut(at) {
                        *place = Some(slot);
                    }
                }
                Ok(false) => {
                    self.tally.sessions += 1;
                    drop(slot);
                    self.free.push(at);
                }
                Err(fault) => {
                    outcome = outcome.and(self.ended_by(at, slot.number, fault));
                }
            }
        }
        self.events = events;
        outcome
    }

    /// Reads what has come. False where the session is over.
    fn go_on(&mut self, slot: &mut Slot) -> Result<bool, Fault> {
        let mut read = [0; 2048];
        loop {
            let count = match slot.stream.read(&mut read) {
                Ok(0) => return Err(Fault::Cut(ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            };
            let come = read.get(..count).unwrap_or_default();
            // Nearly always an answer comes whole.
            let mut whole = std::mem::take(&mut slot.input);
            let bytes = if whole.is_empty() {
                come
            } else {
                whole.extend_from_slice(come);
                &whole
            };
            let mut taken = 0;
            while let Some((kind, payload, length)) = first_frame(bytes.get(taken..).unwrap_or_default())? {
                taken += length;
                if !self.take(slot, kind, payload)? {
                    return Ok(false);
                }
            }
            slot.input = bytes.get(taken..).unwrap_or_default().to_vec();
            // The next one comes with an event of its own.
            if count < read.len() {
                return Ok(true);
            }
        }
    }

    fn take(&mut self, slot: &mut Slot, kind: u8, payload: &[u8]) -> Result<bool, Fault> {
        let now = Instant::now();
        let took = now.saturating_duration_since(slot.asked) + slot.waited;
        self.tally.latency.note(took);
        if slot.session.asked() == Asked::Mail {
            self.tally.mail.note(took);
        }
        self.out.clear();
        let step = slot
            .session
            .answered((kind, payload), &mut self.dialects, &mut self.out, &mut self.tally)
            .map_err(Fault::Wrong)?;
        slot.asked = now;
        send(&mut slot.stream, &self.out, self.manner.frame_by_frame)?;
        Ok(step == Step::Ask)
    }

    fn ended_by(&mut self, at: usize, number: u64, fault: Fault) -> Result<(), String> {
        self.free.push(at);
        match fault {
            Fault::Cut(_) if self.manner.may_cut => {
                self.tally.cut += 1;
                // Nobody may be there for a while; it is asked again, not hoped for.
                self.rest();
                Ok(())
            }
            Fault::Wrong(words) => Err(format!("session {number}: {words}")),
            Fault::Cut(error) => Err(format!("session {number} was cut: {error}")),
        }
    }

    fn look_for_silence(&self) -> Result<(), String> {
        let silent = self.slots.iter().flatten().find(|slot| slot.asked.elapsed() > PATIENCE);
        silent.map_or(Ok(()), |slot| {
            Err(format!("session {}: no answer to {:?}", slot.number, slot.session.asked()))
        })
    }
}

fn send(stream: &mut Stream, out: &Out, frame_by_frame: bool) -> io::Result<()> {
    if !frame_by_frame {
        return if out.bytes.is_empty() { Ok(()) } else { stream.write(&out.bytes) };
    }
    let mut from = 0;
    for end in &out.ends {
        stream.write(out.bytes.get(from..*end).unwrap_or_default())?;
        from = *end;
    }
    Ok(())
}
