//! What has to be kept from one entry to the next: hosts, their processes, and messages that are not complete.
//!
//! Promises: all of it is bounded. Must not: keep what a session of long ago told for a later one that has its process id.

use super::clock::Clock;
use super::entry::Told;
use super::facts::{Auth, Known, Tls};
use super::queue_id::{IdStamp, QueueId};
use super::relay;
use crate::policy::decide::Disposition;
use foldhash::fast::FixedState;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

/// So long can no session be silent: sendmail's longest time-outs are an hour.
pub(super) const SILENCE: SignedDuration = SignedDuration::from_hours(1);
/// So many connections of a delivering process are known; sendmail keeps two of them open by itself.
const MAX_CONNECTIONS: usize = 32;
/// So many servers of one message are told apart.
const MAX_SERVERS: usize = 1000;
/// So many messages that were on their way when the log began.
const MAX_EARLY: usize = 10_000;
/// So many recipients of a message are told apart.
pub(super) const MAX_RECIPIENTS: usize = 1000;

/// Whether a session that told something then must be over by now.
pub(super) fn is_silent(last: Timestamp, now: Timestamp) -> bool {
    // By whole seconds first: this is asked at every entry.
    now.as_second() - last.as_second() >= SILENCE.as_secs() - 2 && now.duration_since(last) > SILENCE
}

/// A process, while its host's log is one run of time.
pub(super) type ProcessKey = (u32, u32, u32);
/// A message, by its host.
pub(super) type MessageKey = (u32, QueueId);

/// One host's log.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Its name as the log has it, and as text.
    pub(super) raw: Box<[u8]>,
    pub(super) name: Box<str>,
    pub(super) clock: Clock,
    /// The first entry of this run, once more as queue ids have it, and the last.
    pub(super) begun: Timestamp,
    pub(super) begun_id: IdStamp,
    pub(super) last: Timestamp,
    /// Which run of time it is: a log that goes back begins another.
    pub(super) run: u32,
    /// Whether `proto=` has told of TLS: then one that does not means something.
    pub(super) tells_tls: bool,
    /// Whether it logs from level 9 on, where every handshake has its entry: then one that is not there means something.
    pub(super) tells_handshakes: bool,
    /// Messages that were taken within this run, though their ids are older.
    pub(super) early: HashSet<QueueId, FixedState>,
    /// Sessions that were refused before the year was known.
    pub(super) undated: Vec<Refusal>,
}

impl Host {
    /// Remembers that the message was taken while this log was written.
    pub(super) fn took(&mut self, queue_id: QueueId) {
        if !self.is_later(queue_id) && self.early.len() < MAX_EARLY {
            self.early.insert(queue_id);
        }
    }

    /// Whether a process that delivers this message must have begun after the log did.
    pub(super) fn is_of_this_run(&self, queue_id: QueueId) -> bool {
        self.is_later(queue_id) || self.early.contains(&queue_id)
    }

    fn is_later(&self, queue_id: QueueId) -> bool {
        queue_id.is_after(self.begun_id)
    }

    /// This run begins.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.begun = at;
        self.begun_id = IdStamp::of(at);
    }
}

/// A session that sendmail refused before MAIL.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) at: Timestamp,
    pub(super) relay: Box<[u8]>,
    pub(super) known: Known,
    pub(super) done: Option<Disposition>,
}

/// What is known of a process.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) last: Timestamp,
    pub(super) session: Option<Session>,
    pub(super) deliveries: Option<Box<Deliveries>>,
    /// A long entry comes in pieces.
    pub(super) pieces: Option<Box<(QueueId, Vec<u8>)>>,
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) relay: Box<[u8]>,
    /// When the first entry of it came, and whether that was its beginning.
    pub(super) since: Timestamp,
    pub(super) whole: bool,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) auth: Option<Arc<Auth>>,
}

impl Process {
    /// The session with this client: a new one, where the process had another.
    pub(super) fn session(&mut self, client: &[u8], at: Timestamp) -> &mut Session {
        self.session.take_if(|session| !relay::same_client(&session.relay, client));
        self.session.get_or_insert_with(|| Session {
            relay: client.into(),
            since: at,
            whole: false,
            tls: None,
            auth: None,
        })
    }

    pub(super) fn deliveries(&mut self) -> &mut Deliveries {
        self.deliveries.get_or_insert_default()
    }
}

impl Session {
    /// What its entries say.
    pub(super) fn known(&self) -> Known {
        match &self.tls {
            Some(tls) => Known::Tls(Arc::clone(tls)),
            None if self.whole => Known::Clear { verify: None },
            None => Known::Nothing,
        }
    }
}

/// What a delivering process has done.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    connections: Vec<Connection>,
    /// It delivers what came while this log was written: it is younger than the log.
    pub(super) young: bool,
    /// A handshake failed, and it was not said with whom.
    pub(super) failed: bool,
    /// The message that is being delivered, and the servers for which it has its record.
    recorded: Option<(QueueId, Vec<u64>)>,
    /// Servers with which a session may be older than the log.
    older: Vec<u64>,
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) server: Box<[u8]>,
    pub(super) known: Known,
    /// A handshake is over, and it was not yet said that the connection is ready.
    pub(super) fresh: bool,
    /// What our own rules did with what was to be delivered over it.
    pub(super) done: Option<Disposition>,
}

impl Deliveries {
    /// The connection that a name stands for, which may be cut.
    pub(super) fn find(&self, shown: &[u8]) -> Option<&Connection> {
        self.connections.iter().rev().find(|one| relay::is_same_server(shown, &one.server))
    }

    pub(super) fn find_mut(&mut self, server: &[u8]) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|one| one.server.eq_ignore_ascii_case(server))
    }

    /// The connection that a handshake was last done on.
    pub(super) fn last_mut(&mut self) -> Option<&mut Connection> {
        self.connections.last_mut()
    }

    /// A new connection takes the place of an older one with the same server.
    pub(super) fn connect(&mut self, server: &[u8], known: Known, fresh: bool) {
        self.connections.retain(|one| !one.server.eq_ignore_ascii_case(server));
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.remove(0);
        }
        self.connections.push(Connection { server: server.into(), known, fresh, done: None });
        self.older.retain(|one| *one != hash_of(server));
    }

    /// Whether this message has no record for this server yet, which is its name and address: two names may be cut to one.
    /// From now on it has.
    pub(super) fn record(&mut self, queue_id: QueueId, server: &[u8]) -> bool {
        let servers = match &mut self.recorded {
            Some((id, servers)) if *id == queue_id => servers,
            other => &mut other.insert((queue_id, Vec::new())).1,
        };
        is_new(servers, server, MAX_SERVERS)
    }

    pub(super) fn may_be_older(&self, server: &[u8]) -> bool {
        self.older.contains(&hash_of(server))
    }

    pub(super) fn mark_older(&mut self, server: &[u8]) {
        is_new(&mut self.older, server, MAX_CONNECTIONS);
    }
}

/// A message that is not complete.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) at: Timestamp,
    pub(super) relay: Option<Box<[u8]>>,
    pub(super) sender: Option<Box<str>>,
    pub(super) known: Known,
    pub(super) auth: Option<Arc<Auth>>,
    /// What a refusal told.
    pub(super) told: Told,
    /// What sendmail's own TLS rules did with it.
    pub(super) done: Option<Disposition>,
    /// sendmail refused it for another reason than TLS, before any milter saw it.
    pub(super) refused_otherwise: bool,
    /// Whether its `from=` has come; before that recipients are collected.
    pub(super) settled: bool,
    pub(super) recipients: Vec<Box<str>>,
    /// How many of those it has were taken.
    pub(super) taken: u32,
    /// How many recipients are still to come.
    pub(super) awaited: u32,
    /// Recipients that have their record.
    pub(super) recorded: Vec<u64>,
}

impl Message {
    /// Notes a recipient that was named before `from=`.
    pub(super) fn collect(&mut self, recipient: &str) {
        if self.recipients.len() < MAX_RECIPIENTS {
            self.recipients.push(recipient.into());
        }
    }

    /// Whether this recipient has no record yet. From now on it has.
    pub(super) fn record(&mut self, recipient: &str) -> bool {
        is_new(&mut self.recorded, recipient.as_bytes(), MAX_RECIPIENTS)
    }

    pub(super) fn has_records(&self) -> bool {
        !self.recorded.is_empty()
    }
}

fn hash_of(text: &[u8]) -> u64 {
    FixedState::default().hash_one(text)
}

/// Adds a text to those known; false where it is one of them. Where there are too many it is better told twice than never.
fn is_new(known: &mut Vec<u64>, text: &[u8], bound: usize) -> bool {
    let hash = hash_of(text);
    if known.contains(&hash) {
        return false;
    }
    if known.len() >= bound {
        known.clear();
    }
    known.push(hash);
    true
}
