//! Counts of decisions, in memory.
//!
//! Promises: for whatever split of a stream of decisions over any number of these, merged in whatever order and
//! grouping, the result is that of one that saw them all ([`Rollup::merge`]), and bounded: of each day and each month
//! so many peers are kept apart, all others are counted as [`OTHERS`].
//!
//! That both hold rests on which peers are kept: the first by [`Rank`], an order that is the same everywhere. A
//! peer that is among the first of all is among the first of each part, so it was kept in each, and nothing of it was
//! counted elsewhere.

use super::observed::{HeldRule, Observed};
use super::seen::{SeenRow, SeenSession};
use crate::policy::domain::{NameBuffer, registrable};
use crate::policy::network::{AddressText, neighbourhood};
use crate::policy::rule::{Mode, Side};
use crate::policy::{Day, Policy};
use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use siphasher::sip::SipHasher13;
use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

/// A word of the program's own, or one that was stored.
pub type Word = Cow<'static, str>;

/// Stands for the domain of all peers beyond the bound. No domain has parentheses.
pub const OTHERS: &str = "(others)";

/// How often, and from when to when, in seconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: i64,
    /// The last time.
    pub last: i64,
}

impl Counts {
    /// One, at that time.
    pub fn one(at: i64) -> Self {
        Self { count: 1, first: at, last: at }
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// How the policy knows a peer, the best that it has: who is named in it is kept before strangers, however many
/// come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KnownBy {
    /// A key names the host, its domain or its network.
    Host,
    /// A key names the sender or a recipient; whoever claims to be the sender gets here.
    Mail,
    /// No key but `*` names it, or none at all.
    Nothing,
}

impl KnownBy {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Host, Self::Mail, Self::Nothing];

    /// The word for it in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Mail => "mail",
            Self::Nothing => "nothing",
        }
    }

    fn of(held: HeldRule) -> Self {
        match held.side {
            _ if !held.specific => Self::Nothing,
            Side::Client | Side::Server => Self::Host,
            Side::Sender | Side::Recipient | Side::RecipientOutbound => Self::Mail,
        }
    }
}

/// Whom decisions are counted under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// How the policy knows it.
    pub known_by: KnownBy,
    /// What somebody registered of its confirmed name; empty where it has none.
    pub domain: String,
    /// Its network and its neighbours' (/24, /48); empty where its address is not known.
    pub network: String,
}

/// What decisions have in common that are counted together: one for each rule that was held, or one where none
/// was. The fields are the columns of the store's `decision_counts`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// `inbound`, `outbound`
    pub direction: Word,
    /// The side on which the key was found; empty where no rule was held.
    pub side: Word,
    /// The rule; empty where none was held.
    pub rule: Word,
    /// Its key; or why `[exempt]` settled it.
    pub key: Word,
    /// `TLSv1.3`; empty in the clear.
    pub version: Word,
    /// The cipher suite; empty in the clear.
    pub cipher: Word,
    /// `max(cipher_bits, auth_ssf)`; nothing where the MTA did not tell.
    pub bits: Option<u16>,
    /// `{verify}`
    pub verify: Word,
    /// The decision's verdict in the row of the rule that decided; in others', what the rule alone would say.
    pub verdict: Word,
    /// What was done with the message or recipient, whichever rule did it.
    pub disposition: Word,
    /// How each mode of the rule fared, by [`Mode::index`]: `pass`, `fail`, `unknown`; empty where it was not in
    /// force.
    pub modes: [Word; Mode::COUNT],
    /// Whether this row counts the decision: it is that of the rule that decided, or the only one.
    pub decided: bool,
}

/// A host that we have spoken to, for the dossier of its domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// How the policy knows it.
    pub known_by: KnownBy,
    /// What somebody registered of its confirmed name; empty where it has none.
    pub domain: String,
    /// Its confirmed name, or its address in brackets.
    pub host: String,
    /// Its address; empty where it is not known.
    pub address: String,
}

/// What a host negotiated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// `inbound`, `outbound`
    pub direction: Word,
    /// `TLSv1.3`; empty in the clear.
    pub version: Word,
    /// The cipher suite; empty in the clear.
    pub cipher: Word,
    /// `max(cipher_bits, auth_ssf)`; nothing where the MTA did not tell.
    pub bits: Option<u16>,
    /// `{verify}`
    pub verify: Word,
}

/// A mode of a rule that was in force on a day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// The day, `2026-11-22`.
    pub day: String,
    /// The rule.
    pub rule: String,
    /// The mode.
    pub mode: Word,
    /// What it demands, in the words of [`crate::policy::requirement::Requirement`].
    pub requirement: String,
}

/// Somebody who is kept apart, as long as there is room.
pub trait Ranked: Clone + Ord {
    /// How the policy knows it.
    fn known_by(&self) -> KnownBy;
    /// What tells it from others of its kind.
    fn names(&self) -> impl Iterator<Item = &str>;
    /// All those of its kind for whom there is no room.
    fn others(known_by: KnownBy) -> Self;
    /// Whether it is those.
    fn is_others(&self) -> bool;
}

impl Ranked for Peer {
    fn known_by(&self) -> KnownBy {
        self.known_by
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [self.domain.as_str(), &self.network].into_iter()
    }

    fn others(known_by: KnownBy) -> Self {
        Self { known_by, domain: OTHERS.to_owned(), network: String::new() }
    }

    fn is_others(&self) -> bool {
        self.domain == OTHERS && self.network.is_empty()
    }
}

impl Ranked for Host {
    fn known_by(&self) -> KnownBy {
        self.known_by
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        [self.domain.as_str(), &self.host, &self.address].into_iter()
    }

    fn others(known_by: KnownBy) -> Self {
        Self { known_by, domain: OTHERS.to_owned(), host: String::new(), address: String::new() }
    }

    fn is_others(&self) -> bool {
        self.domain == OTHERS && self.host.is_empty() && self.address.is_empty()
    }
}

/// The order in which peers are kept: by how the policy knows them, then by a hash that no order of arrival and no
/// host changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<P>(KnownBy, u64, P);

impl<P: Ranked> Rank<P> {
    /// Of a peer.
    pub fn of(peer: P) -> Self {
        Self(peer.known_by(), hash_of(peer.names()), peer)
    }

    /// Whose it is.
    pub fn peer(&self) -> &P {
        &self.2
    }
}

/// Of who is told from others by these names. The key is no secret: it must be the same wherever counts are made that are
/// to be merged.
fn hash_of<'n>(names: impl Iterator<Item = &'n str>) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x656e_6372_2d6d_696c, 0x6576_6964_656e_6365);
    for name in names {
        hasher.write(name.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

/// The counts of one peer.
type Rows<R> = HashMap<R, Counts, RandomState>;

/// The counts of one day or month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket<P: Ord, R: Eq + Hash> {
    max_peers: usize,
    peers: BTreeMap<Rank<P>, Rows<R>>,
    /// Never evicted: one for each of [`KnownBy`].
    others: BTreeMap<P, Rows<R>>,
    rows: usize,
}

impl<P: Ranked, R: Eq + Hash> Bucket<P, R> {
    /// An empty one.
    pub fn new(max_peers: usize) -> Self {
        Self { max_peers, peers: BTreeMap::new(), others: BTreeMap::new(), rows: 0 }
    }

    /// How many peers are kept apart.
    pub fn max_peers(&self) -> usize {
        self.max_peers
    }

    /// All counts, by peer, so that who writes them to a tree goes through it once. Of those who are kept apart with
    /// their rank.
    pub fn by_peer(&self) -> impl Iterator<Item = (Option<&Rank<P>>, &P, &Rows<R>)> {
        let ranked = self.peers.iter().map(|(rank, rows)| (Some(rank), rank.peer(), rows));
        let mut all: Vec<_> =
            ranked.chain(self.others.iter().map(|(peer, rows)| (None, peer, rows))).collect();
        all.sort_unstable_by_key(|(_, peer, _)| *peer);
        all.into_iter()
    }

    /// The peers that are kept apart.
    pub fn ranks(&self) -> impl Iterator<Item = &Rank<P>> {
        self.peers.keys()
    }

    /// All counts; of whom there was no room for as of [`Ranked::others`].
    pub fn iter(&self) -> impl Iterator<Item = (&P, &R, Counts)> {
        let peers = self.peers.iter().map(|(rank, rows)| (rank.peer(), rows));
        peers
            .chain(&self.others)
            .flat_map(|(peer, rows)| rows.iter().map(move |(row, counts)| (peer, row, *counts)))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Counts for a peer, or for the others.
    pub fn add(&mut self, peer: P, row: R, counts: Counts) {
        if peer.is_others() {
            self.rows += usize::from(count(self.others.entry(peer).or_default(), row, counts));
        } else {
            self.add_ranked(Rank::of(peer), row, counts);
        }
    }

    /// Counts for who is known so, and has these names: a [`Ranked`] is made of them only if there may be room for it.
    fn add_seen<S>(
        &mut self,
        known_by: KnownBy,
        names: &[&str],
        peer: impl FnOnce() -> P,
        row: S,
        counts: Counts,
    ) where
        S: Hash + Equivalent<R> + Into<R>,
    {
        let rank = (known_by, hash_of(names.iter().copied()));
        // Of many who come, most find no room: they are not put there to be taken out again.
        if self.peers.len() >= self.max_peers
            && self.peers.last_key_value().is_none_or(|(last, _)| rank > (last.0, last.1))
        {
            self.add_to_others(known_by, row, counts);
        } else {
            self.add_ranked(Rank(known_by, rank.1, peer()), row, counts);
        }
    }

    fn add_ranked<S: Hash + Equivalent<R> + Into<R>>(&mut self, rank: Rank<P>, row: S, counts: Counts) {
        self.rows += usize::from(count(self.peers.entry(rank).or_default(), row, counts));
        self.evict();
    }

    fn add_to_others<S: Hash + Equivalent<R> + Into<R>>(
        &mut self,
        known_by: KnownBy,
        row: S,
        counts: Counts,
    ) {
        // There are three at the most; a new one is put together only where it is not there.
        let others = match self.others.iter_mut().find(|(others, _)| others.known_by() == known_by) {
            Some((_, others)) => others,
            None => self.others.entry(P::others(known_by)).or_default(),
        };
        self.rows += usize::from(count(others, row, counts));
    }

    /// Adds all of another to it. The smaller bound holds.
    pub fn merge(&mut self, other: Self) {
        self.max_peers = self.max_peers.min(other.max_peers);
        self.evict();
        for (peer, rows) in other.peers.into_iter().map(|(rank, rows)| (rank.2, rows)).chain(other.others) {
            for (row, counts) in rows {
                // Row by row, a peer may go while rows of it are still to come: they then follow it to the others.
                self.add(peer.clone(), row, counts);
            }
        }
    }

    /// Counts the last peers among the others, until there are no more than there may be.
    fn evict(&mut self) {
        while self.peers.len() > self.max_peers {
            let Some((rank, rows)) = self.peers.pop_last() else { return };
            self.rows -= rows.len();
            for (row, counts) in rows {
                self.add_to_others(rank.0, row, counts);
            }
        }
    }
}

/// Whether the row is new.
fn count<R, S>(rows: &mut Rows<R>, row: S, counts: Counts) -> bool
where
    R: Eq + Hash,
    S: Hash + Equivalent<R> + Into<R>,
{
    if let Some(known) = rows.get_mut(&row) {
        known.add(counts);
        return false;
    }
    rows.insert(row.into(), counts);
    true
}

/// Counts of decisions: by day and peer, and by month and host.
#[derive(Clone, Debug)]
pub struct Rollup {
    max_peers: usize,
    days: BTreeMap<String, Bucket<Peer, Row>>,
    months: BTreeMap<String, Bucket<Host, Session>>,
    standing: BTreeSet<Standing>,
    decisions: u64,
    /// The day of the last decision, and as it is written.
    last_day: (Day, String),
}

/// The bounds that are still to be put on days to come, and how counts came here, are no part of what was counted.
impl PartialEq for Rollup {
    fn eq(&self, other: &Self) -> bool {
        (&self.days, &self.months, &self.standing) == (&other.days, &other.months, &other.standing)
    }
}

impl Rollup {
    /// An empty one that keeps so many peers apart, of each day, and so many hosts of each month.
    pub fn new(max_peers: usize) -> Self {
        Self {
            max_peers,
            days: BTreeMap::new(),
            months: BTreeMap::new(),
            standing: BTreeSet::new(),
            decisions: 0,
            last_day: (Day(0), Day(0).to_string()),
        }
    }

    /// Counts a decision.
    pub fn observe(&mut self, observed: &Observed) {
        self.observe_all(observed, Counts::one(observed.at));
    }

    /// Counts decisions of one day that are the same.
    pub fn observe_all(&mut self, observed: &Observed, counts: Counts) {
        self.decisions += counts.count;
        let known_by =
            observed.held.iter().flatten().copied().map(KnownBy::of).min().unwrap_or(KnownBy::Nothing);
        // Of a person who has authenticated, neither provider nor address is kept.
        let mut buffer = NameBuffer::default();
        let name = Some(observed.name()).filter(|_| !observed.authenticated);
        let name = name.and_then(|name| buffer.normalised(name)).filter(|name| is_host_name(name));
        let name = name.unwrap_or_default();
        let address = observed.address.filter(|_| !observed.authenticated);
        let (domain, network) = (registrable(name), AddressText::of_network(address.and_then(neighbourhood)));
        let address = AddressText::of(address);
        let at = Day::of_unix_seconds(observed.at);
        if self.last_day.0 != at {
            self.last_day = (at, at.to_string());
        }
        let day = self.last_day.1.as_str();
        // `2026-11` of `2026-11-22`.
        let month = day.rsplit_once('-').map_or(day, |(month, _)| month);
        let max_peers = self.max_peers;
        // Whom nobody judges, or knows, has no dossier.
        let literal;
        let host = if name.is_empty() {
            literal = AddressText::in_brackets(&address);
            &*literal
        } else {
            name
        };
        if !observed.settled
            && !host.is_empty()
            && let Some(bucket) = bucket_of(&mut self.months, month, max_peers)
        {
            let names = [domain, host, &address];
            let kept = || Host {
                known_by,
                domain: domain.to_owned(),
                host: host.to_owned(),
                address: address.to_string(),
            };
            bucket.add_seen(known_by, &names, kept, SeenSession::of(observed), counts);
        }
        let Some(bucket) = bucket_of(&mut self.days, day, max_peers) else { return };
        let names = [domain, &network];
        let kept = || Peer { known_by, domain: domain.to_owned(), network: network.to_string() };
        for (place, held) in observed.held.iter().flatten().copied().enumerate() {
            bucket.add_seen(known_by, &names, kept, SeenRow::of(observed, place, held), counts);
        }
        if !observed.held.iter().flatten().any(|held| held.decided) {
            bucket.add_seen(known_by, &names, kept, SeenRow::alone(observed), counts);
        }
    }

    /// Notes which modes are in force on a day, so that it is known of a rule that meets nobody, too.
    pub fn stand(&mut self, policy: &Policy, day: Day) {
        for rule in policy.rules() {
            // What an exemption lifts is not in force.
            if rule.exemption.as_ref().is_some_and(|exemption| exemption.holds(day)) {
                continue;
            }
            self.standing.extend(rule.modes.in_force(day).map(|(mode, entry)| Standing {
                day: day.to_string(),
                rule: rule.name.clone(),
                mode: mode.as_str().into(),
                requirement: entry.requirement.to_string(),
            }));
        }
    }

    /// Adds all of another to it.
    pub fn merge(&mut self, other: Self) {
        merge_buckets(&mut self.days, other.days);
        merge_buckets(&mut self.months, other.months);
        self.standing.extend(other.standing);
        self.decisions += other.decisions;
        self.max_peers = self.max_peers.min(other.max_peers);
    }

    /// How many decisions were counted here.
    pub fn decisions(&self) -> u64 {
        self.decisions
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        let days: usize = self.days.values().map(Bucket::len).sum();
        let months: usize = self.months.values().map(Bucket::len).sum();
        days + months + self.standing.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty() && self.months.is_empty() && self.standing.is_empty()
    }

    /// The days.
    pub fn days(&self) -> &BTreeMap<String, Bucket<Peer, Row>> {
        &self.days
    }

    /// The months.
    pub fn months(&self) -> &BTreeMap<String, Bucket<Host, Session>> {
        &self.months
    }

    /// The modes that were in force.
    pub fn standing(&self) -> &BTreeSet<Standing> {
        &self.standing
    }

    /// Adds a day, as it was stored.
    pub fn add_day(&mut self, day: String, bucket: Bucket<Peer, Row>) {
        merge_buckets(&mut self.days, BTreeMap::from([(day, bucket)]));
    }

    /// Adds a month, as it was stored.
    pub fn add_month(&mut self, month: String, bucket: Bucket<Host, Session>) {
        merge_buckets(&mut self.months, BTreeMap::from([(month, bucket)]));
    }

    /// Adds what was in force, as it was stored.
    pub fn add_standing(&mut self, standing: Standing) {
        self.standing.insert(standing);
    }
}

fn merge_buckets<P: Ranked, R: Eq + Hash>(
    ours: &mut BTreeMap<String, Bucket<P, R>>,
    theirs: BTreeMap<String, Bucket<P, R>>,
) {
    for (period, bucket) in theirs {
        match ours.entry(period) {
            Entry::Occupied(mut known) => known.get_mut().merge(bucket),
            Entry::Vacant(place) => {
                place.insert(bucket);
            }
        }
    }
}

fn bucket_of<'b, P: Ranked, R: Eq + Hash>(
    buckets: &'b mut BTreeMap<String, Bucket<P, R>>,
    period: &str,
    max_peers: usize,
) -> Option<&'b mut Bucket<P, R>> {
    if !buckets.contains_key(period) {
        buckets.insert(period.to_owned(), Bucket::new(max_peers));
    }
    buckets.get_mut(period)
}

/// Whether a name is one that a host can have: what else a DNS server tells is no name to count under.
fn is_host_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
