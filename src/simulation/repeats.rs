//! Messages like one that was judged before: most mail comes from the same hosts in the same way, day by day.
//!
//! Promises: a message is taken for another only where all is the same that a decision rests on, and all that is told
//! of it ([`Simulation::add`]), by 80 bits of a keyed hash whose key nobody knows; what does not matter to the policies
//! at hand (the local part of a sender, where no key has one) may differ. Memory is bounded, and where nothing
//! repeats hardly anything is spent on asking.
//! Must not: decide.
//!
//! [`Simulation::add`]: super::Simulation::add

use super::Counted;
use crate::policy::facts::{Direction, plain_address, told_address};
use crate::policy::lookup::{Key, SideIndex};
use crate::policy::record::Record;
use crate::policy::rule::{Mode, Side};
use crate::policy::{Day, Policy, domain};
use siphasher::sip128::SipHasher13;
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;

/// So many messages are remembered.
const SLOTS: usize = 1 << 16;
/// After so many questions it is reckoned up whether they were worth it: whether one in [`WORTH`] was answered.
const TRIAL: u32 = 1 << 14;
const WORTH: u32 = 8;
/// For so many messages nothing is asked where it was not.
const REST: u32 = 1 << 15;
/// What is remembered of a message: a part of its hash, and what it came to. Four lie in one line of the cache: with most
/// messages theirs is not in the cache at all, and to wait for it costs more than all else here.
type Slot = (u64, Option<NonZeroU64>);

/// What was judged, and what it came to.
#[derive(Debug)]
pub struct Repeats<'p> {
    regard: Regard<'p>,
    /// Whether a message is compared with what is recorded of it, not with another policy.
    recorded: bool,
    slots: Vec<Slot>,
    hasher: SipHasher13,
    key: Vec<u8>,
    /// The place of the message that was asked for last, and its part of the hash; nothing where it was not looked for.
    hash: Option<(usize, u64)>,
    asked: u32,
    found: u32,
    resting: u32,
}

impl<'p> Repeats<'p> {
    /// For messages that are judged by this policy, and by another or by what is recorded.
    pub fn new(policy: &'p Policy, against: Option<&'p Policy>) -> Self {
        let (regard, keys) = (Regard::of(policy), RandomState::new());
        Self {
            regard: match against.map(Regard::of) {
                Some(other) => regard.and(other),
                None => regard,
            },
            recorded: against.is_none(),
            // Written, not only asked for: each page would be faulted in by the first look, and once more by the first write.
            slots: vec![(u64::MAX, None); SLOTS],
            // A key that the library drew.
            hasher: SipHasher13::new_with_keys(keys.hash_one(0), keys.hash_one(1)),
            key: Vec::new(),
            hash: None,
            asked: 0,
            found: 0,
            resting: 0,
        }
    }

    /// What a message like this one came to. Where that is not known, [`Self::remember`] is to be told.
    pub fn find(&mut self, record: &Record<'_>, day: Day) -> Option<Counted> {
        self.hash = None;
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        if self.asked == TRIAL {
            self.resting = if self.found < TRIAL / WORTH { REST } else { 0 };
            (self.asked, self.found) = (0, 0);
        }
        self.asked += 1;
        self.write_key(record, day);
        let hash = self.hasher.hash(&self.key);
        // The lowest bits, of which a `usize` has enough anywhere.
        let place = usize::try_from(hash.h1 % SLOTS as u64).unwrap_or_default();
        self.hash = Some((place, hash.h2));
        let (known, counted) = *self.slots.get(place)?;
        let counted = counted.filter(|_| known == hash.h2)?;
        self.found += 1;
        Some(Counted::unpack(counted))
    }

    /// What the message that was asked for last came to.
    pub fn remember(&mut self, counted: Counted) {
        if let Some((place, hash)) = self.hash
            && let Some(slot) = self.slots.get_mut(place)
        {
            *slot = (hash, counted.pack());
        }
    }

    /// All that counts of a message. No text has the bytes that are put between its parts.
    fn write_key(&mut self, record: &Record<'_>, day: Day) {
        // All fields are named, so that a new one is not forgotten.
        let Record {
            ts: _,
            host: _,
            queue_id: _,
            direction,
            client_name,
            client_addr,
            client_resolve,
            server_name,
            server_addr,
            sender,
            recipient,
            auth,
            tls_version,
            cipher,
            cipher_bits,
            auth_ssf,
            verify,
            cn_subject,
            cert_subject,
            cert_issuer,
            waited,
            verdict,
            mode,
            disposition,
            rule,
            side,
            key: _,
            reason,
            reply: _,
            failures: _,
            policy: _,
        } = record;
        let Self { key, regard, recorded, .. } = self;
        key.clear();
        key.extend_from_slice(&day.0.to_le_bytes());
        key.push(*direction as u8);
        for number in [cipher_bits, auth_ssf] {
            key.push(u8::from(number.is_some()));
            key.extend_from_slice(&number.unwrap_or_default().to_le_bytes());
        }
        key.push(u8::from(waited.is_some()));
        key.extend_from_slice(&waited.unwrap_or_default().to_le_bytes());
        for text in
            [client_name, client_addr, client_resolve, server_name, server_addr, auth, tls_version, verify]
        {
            part(key, text.as_deref());
        }
        if regard.certificates {
            for text in [cn_subject, cert_subject, cert_issuer] {
                part(key, text.as_deref());
            }
        }
        // Which it is no rule asks; that there is one says that there is TLS.
        key.push(u8::from(cipher.as_deref().is_some_and(|cipher| !cipher.is_empty())));
        let told_side = if *recorded { *side } else { None };
        if *recorded {
            let word = |told: Option<u8>| told.unwrap_or(u8::MAX);
            key.push(word(verdict.map(|verdict| verdict as u8)));
            key.push(word(mode.map(|mode| mode as u8)));
            key.push(word(disposition.map(|disposition| disposition as u8)));
            key.push(word(side.map(|side| side as u8)));
            part(key, rule.as_deref());
            part(key, reason.as_deref());
        }
        let [of_sender, of_recipient] = regard.parts(*direction, told_side);
        address(key, *direction, sender.as_deref(), of_sender, &[]);
        address(key, *direction, recipient.as_deref(), of_recipient, &regard.exempt);
    }
}

/// A text that may be absent, told from every other.
fn part(key: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => key.extend_from_slice(text.as_bytes()),
        None => key.push(0xfe),
    }
    key.push(0xff);
}

/// What of an address counts.
fn address(key: &mut Vec<u8>, direction: Direction, told: Option<&str>, counts: Part, exempt: &[&str]) {
    if counts == Part::Whole || told.is_none() {
        return part(key, told);
    }
    let told = told.unwrap_or_default();
    if counts == Part::Nothing && exempt.is_empty() {
        return part(key, Some(""));
    }
    let told_address = told_address(direction, told);
    let plain = match direction {
        Direction::Inbound => plain_address(told_address),
        Direction::Outbound => Cow::Borrowed(told_address),
    };
    let (local, domain) = domain::split_address(&plain);
    if exempt.iter().any(|listed| listed.eq_ignore_ascii_case(local)) {
        return part(key, Some(told));
    }
    // The null sender is none at all.
    key.push(if plain.is_empty() { 0xfc } else { 0xfd });
    part(key, domain.filter(|_| counts == Part::Domain));
}

/// How much of an address counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Nothing,
    Domain,
    Whole,
}

/// What of addresses a policy regards.
#[derive(Debug)]
struct Regard<'p> {
    sender: Part,
    recipient: Part,
    recipient_outbound: Part,
    /// The names in the other side's certificate.
    certificates: bool,
    /// Local parts of recipients that are exempt.
    exempt: Vec<&'p str>,
}

impl<'p> Regard<'p> {
    fn of(policy: &'p Policy) -> Self {
        let keys = |side| Part::of(policy.index().side(side));
        let modes =
            || policy.rules().iter().flat_map(|rule| Mode::HARDEST_FIRST.map(|mode| rule.modes.get(mode)));
        // A share is chosen by the sender's domain, too.
        let shares = modes().flatten().any(|entry| entry.percent.is_some());
        Self {
            sender: keys(Side::Sender).max(if shares { Part::Domain } else { Part::Nothing }),
            recipient: keys(Side::Recipient),
            // Of a delivery users count at whatever domain.
            recipient_outbound: match keys(Side::RecipientOutbound) {
                Part::Nothing => Part::Nothing,
                Part::Domain | Part::Whole => Part::Whole,
            },
            certificates: modes().flatten().any(|entry| !entry.requirement.certificate.is_empty()),
            exempt: policy.exempt().recipients.iter().map(|listed| domain::split_address(listed).0).collect(),
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.sender = self.sender.max(other.sender);
        self.recipient = self.recipient.max(other.recipient);
        self.recipient_outbound = self.recipient_outbound.max(other.recipient_outbound);
        self.certificates |= other.certificates;
        self.exempt.extend(other.exempt);
        self
    }

    /// What counts of the sender and of the recipient. What is recorded to have been decided by one of them is told by its
    /// domain.
    fn parts(&self, direction: Direction, recorded: Option<Side>) -> [Part; 2] {
        let told = match direction {
            Direction::Inbound => Part::Domain,
            Direction::Outbound => Part::Whole,
        };
        let [of_sender, of_recipient] = match recorded {
            Some(Side::Sender) => [told, Part::Nothing],
            Some(Side::Recipient | Side::RecipientOutbound) => [Part::Nothing, told],
            Some(Side::Client | Side::Server) | None => [Part::Nothing; 2],
        };
        match direction {
            Direction::Inbound => [self.sender.max(of_sender), self.recipient.max(of_recipient)],
            // Nobody is judged by the sender of what leaves.
            Direction::Outbound => [of_sender, self.recipient_outbound.max(of_recipient)],
        }
    }
}

impl Part {
    /// What of an address the keys of a side regard.
    fn of(side: &SideIndex) -> Self {
        if side.is_empty() {
            return Self::Nothing;
        }
        let is_address = |key: Key<'_>| matches!(key, Key::Name(name) if name.contains('@'));
        if side.iter().any(|found| is_address(found.key)) { Self::Whole } else { Self::Domain }
    }
}

#[cfg(test)]
mod tests;
