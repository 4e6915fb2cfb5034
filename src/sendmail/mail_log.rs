//! sendmail's mail log: what it tells of each session, message and delivery, as decision records that are not judged yet.
//!
//! A session's TLS stands in one entry, its messages in others, and only the process id joins them; a delivery's likewise.
//! [`Joiner`] takes a log line by line and gives a record for each message, and for each delivery by a message to a
//! server. What it knows it is right about: where an entry that would be needed is not there the record says
//! nothing of TLS (its verdict is then `unknown`), where a name or an address was cut it is absent.
//!
//! In the clear or not? An inbound session with a `STARTTLS=server` entry had TLS from there on. Without one, `proto=ESMTPS`
//! says that there was TLS (which, nobody knows), and anything else that there was none; but `proto=ESMTP` alone says
//! nothing, for that is also written where a client went on after STARTTLS without another EHLO. What an older process
//! with the same id had is told from it by the other client, by silence, or by the time in the queue id, which is that of
//! the session's beginning. A delivery without a `STARTTLS=client` entry was in the clear if the delivering process is
//! known to have begun while this log was written (a queue id has the time of the message's arrival, and the process is
//! younger still), if the session got so far that TLS would have been used, and if the host is seen to log at level 9.
//!
//! Recipients are those of RCPT as `to=` shows them, by whatever alias or list they were then delivered to: aliases and
//! forwards are not followed back.
//!
//! Promises: pure and streaming; memory does not grow with the log; any bytes will do. What could not be joined is counted
//! ([`Tally`]). Must not: read files or clocks.

mod clock;
mod entry;
mod facts;
mod header;
mod inbound;
mod outbound;
mod queue_id;
mod relay;
mod scan;
mod stamps;
mod state;
mod table;
mod tally;

pub use header::{is_syslog, stamp_of};
pub use tally::{Records, Tally};

use self::entry::Entry;
use self::header::Line;
use self::queue_id::QueueId;
use self::stamps::Stamps;
use self::state::{Host, Message, MessageKey, Process, ProcessKey, SILENCE, is_silent};
use self::table::Table;
use crate::policy::facts::text;
use crate::policy::record::Record;
use foldhash::fast::FixedState;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// So many processes are known at a time.
const MAX_PROCESSES: usize = 100_000;
/// So many messages wait for their recipients.
const MAX_MESSAGES: usize = 100_000;
/// So many hosts: beyond that it is no log.
const MAX_HOSTS: usize = 10_000;
/// A long entry comes in pieces, and has no more bytes than this.
const MAX_ENTRY: usize = 64 * 1024;
/// So many refused sessions wait for the year to be known.
const MAX_UNDATED: usize = 1000;
/// Entries may come out of order by so much; more is another file.
const BACKWARDS: SignedDuration = SignedDuration::from_mins(5);

/// How a log is to be read.
#[derive(Clone, Debug)]
pub struct Options {
    /// A record for each recipient, not for each message.
    pub recipients: bool,
    /// A record for each recipient of a delivery, not for each message and server.
    pub deliveries: bool,
    /// The time zone of traditional time stamps.
    pub zone: jiff::tz::TimeZone,
    /// A time at or after the end of the log (now, or when the file was last changed): the year of traditional time stamps
    /// where no queue id tells it.
    pub reference: Timestamp,
}

/// Joins a log's entries. See the module.
#[derive(Debug)]
pub struct Joiner {
    options: Options,
    tally: Tally,
    hosts: Vec<Host>,
    names: HashMap<Box<[u8]>, u32, FixedState>,
    /// The host of the line before.
    latest: u32,
    processes: Table<ProcessKey, Process>,
    /// How many of them may have said a part of an entry.
    in_pieces: usize,
    messages: Table<MessageKey, Message>,
    suites: facts::Suites,
    stamps: Stamps,
}

/// Where and when an entry was written, once that is known.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: Timestamp,
    host: u32,
    process: ProcessKey,
    /// Of the program that hands messages in, not of the MTA.
    submission: bool,
}

impl Joiner {
    /// Begins a log.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            tally: Tally::default(),
            hosts: Vec::new(),
            names: HashMap::with_hasher(FixedState::default()),
            latest: 0,
            processes: Table::new(MAX_PROCESSES, Some(SILENCE)),
            in_pieces: 0,
            messages: Table::new(MAX_MESSAGES, None),
            suites: facts::Suites::default(),
            stamps: Stamps::default(),
        }
    }

    /// Another file begins: one that was rotated, or another host's. `reference` is as in [`Options`].
    pub fn begin_file(&mut self, reference: Timestamp) {
        self.options.reference = reference;
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes one line, without its line feed. `emit` is called for every record that is thereby complete.
    pub fn line(&mut self, line: &[u8], emit: &mut impl FnMut(&Record<'_>)) {
        self.tally.lines += 1;
        let Some(line) = header::line(line, &self.stamps) else { return };
        if is_of_others(line.tag) {
            self.tally.of_postfix += u64::from(line.tag.starts_with(POSTFIX));
            return;
        }
        match entry::queue_id(line.content) {
            None => self.whole(&line, None, line.content, emit),
            Some((queue_id, None, rest)) => self.whole(&line, Some(queue_id), rest, emit),
            Some((queue_id, Some(number), rest)) => self.piece(&line, queue_id, number, rest, emit),
        }
    }

    /// The end of all input: what is still held is given.
    pub fn finish(&mut self, emit: &mut impl FnMut(&Record<'_>)) {
        let mut cut: Vec<(ProcessKey, QueueId, Vec<u8>, Timestamp)> = Vec::new();
        for (key, process) in self.processes.values_mut() {
            if let Some((queue_id, bytes)) = process.pieces.take().map(|pieces| *pieces) {
                cut.push((*key, queue_id, bytes, process.last));
            }
        }
        cut.sort_unstable_by_key(|(key, _, _, at)| (*at, *key));
        for (process, queue_id, bytes, at) in cut {
            let place = Place { at, host: process.0, process, submission: false };
            self.joined(place, queue_id, &bytes, emit);
        }
        let held = self.messages.drain();
        self.let_go(held, emit);
        for host in 0..self.hosts.len() {
            self.date(u32::try_from(host).unwrap_or_default(), emit);
        }
    }

    /// An entry that is whole.
    fn whole(
        &mut self,
        line: &Line<'_>,
        queue_id: Option<QueueId>,
        rest: &[u8],
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        let unescaped = entry::unescape(rest);
        let read = match queue_id {
            Some(queue_id) => entry::with_queue_id(queue_id, &unescaped),
            None => entry::without_queue_id(&unescaped),
        };
        let Some(read) = read else {
            self.tally.not_understood += u64::from(entry::is_expected(queue_id.is_some(), &unescaped));
            return;
        };
        self.tally.entries += 1;
        let Some(place) = self.place(line, queue_id, emit) else {
            self.tally.not_understood += 1;
            return;
        };
        self.flush_pieces(place, emit);
        self.entry(place, &read, emit);
    }

    /// A piece of a long entry: `QID[1]: … ...`, the last one without the dots.
    fn piece(
        &mut self,
        line: &Line<'_>,
        queue_id: QueueId,
        number: u32,
        rest: &[u8],
        emit: &mut impl FnMut(&Record<'_>),
    ) {
        let Some(place) = self.place(line, Some(queue_id), emit) else { return };
        if number == 1 {
            self.flush_pieces(place, emit);
        }
        let (rest, more) = rest.strip_suffix(b" ...").map_or((rest, false), |rest| (rest, true));
        if number == 1 {
            self.in_pieces += 1;
            self.process(place).pieces = Some(Box::new((queue_id, Vec::new())));
        }
        let pieces = self.process(place).pieces.as_deref_mut();
        let Some((_, bytes)) = pieces.filter(|(id, _)| *id == queue_id) else {
            // The beginning is missing.
            self.tally.not_understood += 1;
            return;
        };
        if bytes.len() + rest.len() <= MAX_ENTRY {
            bytes.extend_from_slice(rest);
        }
        if !more {
            self.flush_pieces(place, emit);
        }
    }

    /// Reads the pieces that are there as one entry.
    fn flush_pieces(&mut self, place: Place, emit: &mut impl FnMut(&Record<'_>)) {
        if self.in_pieces == 0 {
            return;
        }
        let pieces = self.processes.get(place.process).and_then(|process| process.pieces.take());
        if let Some((queue_id, bytes)) = pieces.map(|pieces| *pieces) {
            self.in_pieces -= 1;
            self.joined(place, queue_id, &bytes, emit);
        }
    }

    fn joined(&mut self, place: Place, queue_id: QueueId, bytes: &[u8], emit: &mut impl FnMut(&Record<'_>)) {
        let unescaped = entry::unescape(bytes);
        match entry::with_queue_id(queue_id, &unescaped) {
            Some(read) => {
                self.tally.entries += 1;
                self.entry(place, &read, emit);
            }
            None => self.tally.not_understood += u64::from(entry::is_expected(true, &unescaped)),
        }
    }

    /// Whose entry it is, and when it was written.
    fn place(
        &mut self,
        line: &Line<'_>,
        queue_id: Option<QueueId>,
        emit: &mut impl FnMut(&Record<'_>),
    ) -> Option<Place> {
        let stamp = self.stamps.read(line.stamp)?;
        let number = self.host(line.host, emit);
        let host = self.hosts.get_mut(number as usize)?;
        let was_certain = host.clock.is_certain();
        let first = !host.clock.has_begun();
        let reading = host.clock.at(stamp, queue_id, &self.options)?;
        let at = reading.at;
        if reading.redates {
            self.redate(number);
        }
        let host = self.hosts.get_mut(number as usize)?;
        if first {
            host.begin(at);
        } else if at < host.last && at.duration_since(host.last) < -BACKWARDS {
            host.run += 1;
            self.tally.went_back += 1;
            host.begin(at);
            host.early.clear();
        }
        host.last = at;
        let process = (number, host.run, line.pid);
        if !was_certain && host.clock.is_certain() {
            self.date(number, emit);
        }
        self.turn(at, emit);
        if let Some(known) = self.processes.get(process) {
            if is_silent(known.last, at) {
                *known = Process::default();
            }
            known.last = at;
        }
        Some(Place { at, host: number, process, submission: is_submission(line.tag) })
    }

    /// The host's number.
    fn host(&mut self, name: &[u8], emit: &mut impl FnMut(&Record<'_>)) -> u32 {
        // Most often it is the one of the line before.
        if self.hosts.get(self.latest as usize).is_some_and(|host| *host.raw == *name) {
            return self.latest;
        }
        if let Some(number) = self.names.get(name) {
            self.latest = *number;
            return *number;
        }
        if self.hosts.len() >= MAX_HOSTS {
            self.finish(emit);
            self.tally.forgotten += u64::try_from(self.processes.len()).unwrap_or(u64::MAX);
            self.processes.drain();
            self.hosts.clear();
            self.names.clear();
        }
        let number = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.hosts.push(Host { raw: name.into(), name: text(name).into(), ..Host::default() });
        self.names.insert(name.into(), number);
        number
    }

    /// Makes room in the tables.
    fn turn(&mut self, at: Timestamp, emit: &mut impl FnMut(&Record<'_>)) {
        if let Some(gone) = self.processes.turn(at) {
            if gone.full {
                self.tally.forgotten += u64::try_from(gone.values.len()).unwrap_or(u64::MAX);
            } else {
                // Another host's file may tell of the same days: by the clock of its own a process may not be idle.
                let hosts = &self.hosts;
                let is_idle = |key: &ProcessKey, last: Timestamp| {
                    let host = hosts.get(key.0 as usize).filter(|host| host.run == key.1);
                    host.is_none_or(|host| is_silent(last, host.last))
                };
                for (key, process) in gone.values {
                    if !is_idle(&key, process.last) {
                        self.processes.keep(key, process);
                    }
                }
            }
        }
        if let Some(gone) = self.messages.turn(at) {
            self.let_go(gone.values, emit);
        }
    }

    /// The year has become known: what came before was thought to be of another.
    fn redate(&mut self, number: u32) {
        let Self { options, hosts, processes, messages, .. } = self;
        let Some(host) = hosts.get_mut(number as usize) else { return };
        let clock = host.clock.clone();
        let redate = |at: &mut Timestamp| *at = clock.redate(*at, options);
        host.begin(clock.redate(host.begun, options));
        redate(&mut host.last);
        for refusal in &mut host.undated {
            redate(&mut refusal.at);
        }
        for (_, process) in processes.values_mut().filter(|(key, _)| key.0 == number) {
            redate(&mut process.last);
            if let Some(session) = &mut process.session {
                redate(&mut session.since);
            }
        }
        for (_, message) in messages.values_mut().filter(|(key, _)| key.0 == number) {
            redate(&mut message.at);
        }
    }

    fn entry(&mut self, place: Place, entry: &Entry<'_>, emit: &mut impl FnMut(&Record<'_>)) {
        if let Some(host) = self.hosts.get_mut(place.host as usize).filter(|host| !host.tells_handshakes) {
            host.tells_handshakes = entry.is_of_level_9();
        }
        match entry {
            Entry::Connected { relay } => self.connected(place, relay),
            Entry::Tls(entry::Side::Server, tls) => self.server_tls(place, tls),
            Entry::Tls(entry::Side::Client, tls) => self.client_tls(place, tls),
            Entry::Names { side, subject, issuer } => self.names_of(place, *side, subject, issuer),
            Entry::HandshakeFailed(side) => self.handshake_failed(place, *side),
            Entry::Authenticated { relay, who, mechanism, bits } => {
                self.authenticated(place, relay, facts::Auth::of(who, mechanism, bits));
            }
            Entry::Ready { relay } => self.ready(place, relay),
            Entry::Refused(refused) => self.refused(place, refused, emit),
            Entry::MilterRefused { queue_id, sender, recipient } => {
                self.milter_refused(place, *queue_id, *sender, *recipient, emit);
            }
            Entry::From(from) => self.from(place, from, emit),
            Entry::To(to) => self.to(place, to, emit),
        }
    }
}

/// How the names of Postfix's programs begin: `postfix/smtpd`, `postfix-in/cleanup`.
const POSTFIX: &[u8] = b"postfix";

/// Programs whose entries are none of sendmail's, whatever they say.
fn is_of_others(tag: &[u8]) -> bool {
    let others: [&[u8]; 4] = [POSTFIX, b"encr-milter", b"exim", b"dovecot"];
    others.iter().any(|other| tag.starts_with(other))
}

/// `sm-msp`, `sm-msp-queue`: the program that hands messages to the MTA.
fn is_submission(tag: &[u8]) -> bool {
    tag.starts_with(b"sm-msp")
}

#[cfg(test)]
mod tests;
