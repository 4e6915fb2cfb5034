//! Who would break? By direction and domain, at which demand.
//!
//! Promises: what [`exempt`](crate::policy::rule::Exempt) settled is counted apart; what the MTA did not tell neither
//! fails nor passes; whoever would break first stands first.

use super::{Period, direction_of, each, record_of, session};
use crate::evidence::rollup::{OTHERS, Session};
use crate::evidence::store::{Store, StoreError};
use crate::policy::facts::{Direction, TlsState};
use crate::policy::requirement::{Outcome, Requirement, TlsVersion};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// How many demands are tried.
pub const DEMANDS: usize = 6;

/// The demands that are tried on everyone: 112, 128 and 256 bits, TLS 1.2 and 1.3, a verified certificate.
pub fn demands() -> [Requirement; DEMANDS] {
    let bits = |bits| Requirement { min_bits: Some(bits), ..Requirement::default() };
    let version = |name| Requirement { min_version: TlsVersion::from_policy(name), ..Requirement::default() };
    let verify = Requirement { verify: true, ..Requirement::default() };
    [bits(112), bits(128), bits(256), version("TLSv1.2"), version("TLSv1.3"), verify]
}

/// In which order demands are looked at to say who would break first: the mildest first.
const MILDEST_FIRST: [usize; DEMANDS] = [0, 3, 1, 2, 4, 5];

/// Mail of one direction.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exposure {
    /// Which way the mail goes.
    pub direction: Direction,
    /// Messages that `[exempt]` settled. They are counted nowhere else in here.
    pub exempt: u64,
    /// Of all domains.
    pub total: Tally,
    /// By the registrable part of the peer's confirmed name; empty: hosts without one. Who would break first stands
    /// first.
    pub domains: Vec<DomainTally>,
}

/// What was seen of one domain's hosts.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DomainTally {
    /// The domain; empty for hosts without a confirmed name, `(others)` for those beyond the store's bound.
    pub domain: String,
    /// Its counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Counts of messages: of recipients, where those are judged.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// How many messages.
    pub messages: u64,
    /// How many peers: networks of a domain. Those beyond the store's bound are not among them.
    pub peers: u64,
    /// Messages in the clear.
    pub in_the_clear: u64,
    /// By effective key bits, ascending; what was not told first.
    pub bits: Vec<BitsShare>,
    /// By version of TLS.
    pub versions: Vec<VersionShare>,
    /// One for each of [`demands`], in their order.
    pub would_fail: Vec<WouldFail>,
    /// The first message.
    pub first: jiff::Timestamp,
    /// The last one.
    pub last: jiff::Timestamp,
}

/// Messages of one number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BitsShare {
    /// The bits; 0 in the clear, null where the MTA did not tell.
    pub bits: Option<u16>,
    /// How many.
    pub messages: u64,
}

/// Messages of one version.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VersionShare {
    /// The version; `none` in the clear, null where the MTA did not tell.
    pub version: Option<String>,
    /// How many.
    pub messages: u64,
}

/// How a demand would fare.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct WouldFail {
    /// The demand, as the policy spells it: `min-bits 128`.
    pub requirement: String,
    /// Messages that would fail.
    pub messages: u64,
    /// Peers of which at least one would.
    pub peers: u64,
    /// Messages of which the MTA did not tell what would be needed to say.
    pub not_told: u64,
}

/// In the clear, in [`VersionShare::version`].
pub const NO_TLS: &str = "none";

/// Who would break?
pub fn who_would_break(store: &Store, period: Period) -> Result<Vec<Exposure>, StoreError> {
    // Peers come one after another, so that each is counted once.
    const QUESTION: &str = "SELECT direction, version, cipher, bits, verify, domain, network, \
                            rule = '' AND verdict = 'exempt' AS settled, sum(count), min(first), max(last) \
                            FROM decision_counts WHERE decided = 1 AND day BETWEEN ?1 AND ?2 \
                            GROUP BY direction, domain, network, settled, version, cipher, bits, verify \
                            ORDER BY direction, domain, network";
    let mut judge = Judge::default();
    let mut exempt: BTreeMap<String, u64> = BTreeMap::new();
    let mut domains: BTreeMap<(String, String), Counting> = BTreeMap::new();
    each(store, QUESTION, period.days(), |row| {
        let session = session(row, 0)?;
        let count: u64 = row.get(8)?;
        if row.get(7)? {
            *exempt.entry(session.direction.into_owned()).or_default() += count;
            return Ok(());
        }
        let domain: String = row.get(5)?;
        let is_others = domain == OTHERS;
        let counting = domains.entry((session.direction.to_string(), domain)).or_default();
        counting.meet(Some(row.get(6)?).filter(|_| !is_others));
        counting.add(judge.judge(session), count, row.get(9)?, row.get(10)?);
        Ok(())
    })?;
    let mut directions: BTreeMap<String, Vec<DomainTally>> =
        exempt.keys().map(|direction| (direction.clone(), Vec::new())).collect();
    for ((direction, domain), counting) in domains {
        directions.entry(direction).or_default().push(DomainTally { domain, tally: counting.finish() });
    }
    let exposure = |(direction, mut domains): (String, Vec<DomainTally>)| {
        domains
            .sort_by_cached_key(|domain| Reverse((domain.tally.urgency(), Reverse(domain.domain.clone()))));
        Exposure {
            direction: direction_of(&direction),
            exempt: exempt.get(&direction).copied().unwrap_or_default(),
            total: Tally::of_all(domains.iter().map(|domain| &domain.tally)),
            domains,
        }
    };
    Ok(directions.into_iter().map(exposure).collect())
}

/// What is known of a session.
struct Judged {
    version: Option<String>,
    bits: Option<u16>,
    is_plaintext: bool,
    outcomes: [Fares; DEMANDS],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fares {
    Met,
    Failed,
    NotTold,
}

/// Judges each session once, however many peers have it.
struct Judge {
    demands: [Requirement; DEMANDS],
    known: HashMap<Session, Judged>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { demands: demands(), known: HashMap::new() }
    }
}

impl Judge {
    fn judge(&mut self, session: Session) -> &Judged {
        let demands = &self.demands;
        self.known.entry(session).or_insert_with_key(|session| {
            let record = record_of(session);
            let facts = record.facts();
            let outcomes = demands.each_ref().map(|demand| match demand.check(&facts) {
                Outcome::Met => Fares::Met,
                Outcome::Failed(_) => Fares::Failed,
                Outcome::NotTold(_) => Fares::NotTold,
            });
            let is_plaintext = facts.tls.state == TlsState::Plaintext;
            let told = facts.tls.version.as_deref().map(str::to_owned);
            let version = if is_plaintext { Some(NO_TLS.to_owned()) } else { told };
            Judged { version, bits: facts.effective_bits(), is_plaintext, outcomes }
        })
    }
}

/// The counts of a domain while its peers pass by.
#[derive(Default)]
struct Counting {
    peer: Option<String>,
    /// Whether the peer has failed a demand already.
    peer_failed: [bool; DEMANDS],
    messages: u64,
    peers: u64,
    in_the_clear: u64,
    bits: BTreeMap<Option<u16>, u64>,
    versions: BTreeMap<Option<String>, u64>,
    would_fail: [WouldFail; DEMANDS],
    times: Option<(i64, i64)>,
}

impl Counting {
    /// Nothing for one who is not kept apart.
    fn meet(&mut self, peer: Option<String>) {
        if peer.is_some() && peer != self.peer {
            self.peer = peer;
            self.peers += 1;
            self.peer_failed = [false; DEMANDS];
        }
    }

    fn add(&mut self, judged: &Judged, count: u64, first: i64, last: i64) {
        self.messages += count;
        self.in_the_clear += if judged.is_plaintext { count } else { 0 };
        *self.bits.entry(judged.bits).or_default() += count;
        *self.versions.entry(judged.version.clone()).or_default() += count;
        for ((fares, total), failed) in
            judged.outcomes.iter().zip(&mut self.would_fail).zip(&mut self.peer_failed)
        {
            match fares {
                Fares::Met => {}
                Fares::NotTold => total.not_told += count,
                Fares::Failed => {
                    total.messages += count;
                    let is_new = self.peer.is_some() && !std::mem::replace(failed, true);
                    total.peers += u64::from(is_new);
                }
            }
        }
        let (known_first, known_last) = self.times.unwrap_or((first, last));
        self.times = Some((known_first.min(first), known_last.max(last)));
    }

    fn finish(self) -> Tally {
        let (first, last) = self.times.unwrap_or_default();
        let would_fail = self.would_fail.into_iter().zip(demands());
        Tally {
            messages: self.messages,
            peers: self.peers,
            in_the_clear: self.in_the_clear,
            bits: bits_shares(self.bits),
            versions: version_shares(self.versions),
            would_fail: would_fail
                .map(|(counts, demand)| WouldFail { requirement: demand.to_string(), ..counts })
                .collect(),
            first: super::time(first),
            last: super::time(last),
        }
    }
}

fn bits_shares(counts: BTreeMap<Option<u16>, u64>) -> Vec<BitsShare> {
    counts.into_iter().map(|(bits, messages)| BitsShare { bits, messages }).collect()
}

fn version_shares(counts: BTreeMap<Option<String>, u64>) -> Vec<VersionShare> {
    counts.into_iter().map(|(version, messages)| VersionShare { version, messages }).collect()
}

impl Tally {
    /// How much would break, at the mildest demand first.
    fn urgency(&self) -> ([u64; DEMANDS], u64) {
        let failing = |demand: usize| self.would_fail.get(demand).map_or(0, |fails| fails.messages);
        (MILDEST_FIRST.map(failing), self.messages)
    }

    /// All of them together.
    fn of_all<'t>(tallies: impl Iterator<Item = &'t Self> + Clone) -> Self {
        let mut bits: BTreeMap<Option<u16>, u64> = BTreeMap::new();
        let mut versions: BTreeMap<Option<String>, u64> = BTreeMap::new();
        let mut total = Counting::default().finish();
        for tally in tallies.clone() {
            total.messages += tally.messages;
            total.peers += tally.peers;
            total.in_the_clear += tally.in_the_clear;
            for share in &tally.bits {
                *bits.entry(share.bits).or_default() += share.messages;
            }
            for share in &tally.versions {
                *versions.entry(share.version.clone()).or_default() += share.messages;
            }
            for (all, one) in total.would_fail.iter_mut().zip(&tally.would_fail) {
                all.messages += one.messages;
                all.peers += one.peers;
                all.not_told += one.not_told;
            }
        }
        let first = tallies.clone().map(|tally| tally.first).min().unwrap_or_default();
        let last = tallies.map(|tally| tally.last).max().unwrap_or_default();
        Self { bits: bits_shares(bits), versions: version_shares(versions), first, last, ..total }
    }
}
