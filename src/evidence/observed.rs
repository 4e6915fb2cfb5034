//! What of a decision is counted.
//!
//! Promises: made of a decision without waiting and with one allocation, for the thread that answers makes it; what
//! takes longer (whose domain is that?) is done by whoever counts. What a peer or an odd MTA can fill is cut.
//! Must not: hold a mail address.

use crate::policy::decide::{AUTHENTICATED, Decision, Disposition, Fared, Held, Reason, SIDES, Verdict};
use crate::policy::facts::{Direction, Facts};
use crate::policy::lookup::Key;
use crate::policy::record::{FailureRecord, Record};
use crate::policy::rule::{Mode, Side};
use std::fmt::{Display, Write};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// The longest text of a TLS session that is kept. OpenSSL's names have some 30 bytes.
const MAX_TOLD: usize = 64;
/// A longer name is none: the DNS allows 253 bytes.
const MAX_NAME: usize = 256;

/// One decision, as far as it is counted. Two are the same where they would be counted as the same, whenever that was.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When, in seconds since 1970-01-01 00:00 UTC.
    pub(super) at: i64,
    pub(super) direction: Direction,
    pub(super) address: Option<IpAddr>,
    /// `max(cipher_bits, auth_ssf)`
    pub(super) bits: Option<u16>,
    pub(super) verdict: Verdict,
    pub(super) disposition: Disposition,
    /// Whether `[exempt]` settled it.
    pub(super) settled: bool,
    /// The same, for the client has authenticated: it is a person, whose whereabouts are not kept.
    pub(super) authenticated: bool,
    /// The rules that were held.
    pub(super) held: [Option<HeldRule>; SIDES],
    texts: Texts,
}

/// A rule that was held, and how it fared. Its name and key are [`Observed::rule`] and [`Observed::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldRule {
    pub(super) side: Side,
    /// Whether its key names somebody: it is not `*`.
    pub(super) specific: bool,
    /// Whether it decided.
    pub(super) decided: bool,
    /// What it alone would say.
    pub(super) verdict: Verdict,
    /// By [`Mode::index`].
    pub(super) modes: [Option<Fared>; Mode::COUNT],
}

/// Where a text stands in [`Texts`].
const NAME: usize = 0;
const VERSION: usize = 1;
const CIPHER: usize = 2;
const VERIFY: usize = 3;
const REASON: usize = 4;
const RULES: usize = 5;

/// Some texts in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Texts {
    all: String,
    ends: [u32; RULES + 2 * SIDES],
    count: usize,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.end();
    }

    /// What has to be put together first.
    fn write(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.all, "{text}");
        self.end();
    }

    fn end(&mut self) {
        if let Some(end) = self.ends.get_mut(self.count) {
            // Texts of 4 GiB do not come.
            *end = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
            self.count += 1;
        }
    }

    fn get(&self, place: usize) -> &str {
        let end = |place: usize| self.ends.get(place).map_or(0, |end| *end as usize);
        let start = place.checked_sub(1).map_or(0, end);
        self.all.get(start..end(place)).unwrap_or_default()
    }
}

/// At most [`MAX_TOLD`] bytes, whole characters.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TOLD)).unwrap_or_default()
}

impl PartialEq for Observed {
    fn eq(&self, other: &Self) -> bool {
        let facts = |of: &Self| {
            let fared = (of.verdict, of.disposition, of.settled, of.authenticated);
            (of.direction, of.address, of.bits, fared, of.held)
        };
        facts(self) == facts(other) && self.texts == other.texts
    }
}

impl Eq for Observed {}

impl Hash for Observed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What else tells two apart is rare.
        (self.address, self.verdict).hash(state);
        self.texts.all.hash(state);
    }
}

impl Observed {
    /// Of a decision.
    pub fn of(facts: &Facts<'_>, decision: &Decision<'_>, at: jiff::Timestamp) -> Self {
        let mut observed = Self::begin(facts, at, decision.verdict, decision.disposition);
        observed.reason(decision.settled, decision.reason);
        for (held, place) in decision.held.iter().flatten().zip(&mut observed.held) {
            let decided = decision.side == Some(held.side);
            let verdict = if decided { decision.verdict } else { verdict_of(held) };
            let specific = held.key != Key::Any;
            *place = Some(HeldRule { side: held.side, specific, decided, verdict, modes: held.modes });
            observed.texts.push(&held.rule.name);
            match held.key {
                Key::Name(name) => observed.texts.push(name),
                key => observed.texts.write(key),
            }
        }
        observed
    }

    /// Of a decision's record alone, where the policy is not known: how the rule that decided fared, and each other
    /// one that was not met. Nothing of a record that is yet to be judged, or that has no time.
    pub fn of_record(record: &Record<'_>) -> Option<Self> {
        let verdict = record.verdict?;
        let disposition = record.disposition.unwrap_or(Disposition::Accept);
        let mut observed = Self::begin(&record.facts(), record.ts?, verdict, disposition);
        let settled = verdict == Verdict::Exempt && record.rule.is_none();
        observed.reason(settled, record.reason.as_deref().map(Reason::Words));
        let mut places = observed.held.iter_mut();
        if let (Some(rule), Some(side), Some(place)) = (record.rule.as_deref(), record.side, places.next()) {
            let mut modes = [None; Mode::COUNT];
            let fared = match verdict {
                Verdict::Pass => Some(Fared::Passed),
                Verdict::Unknown => Some(Fared::NotTold),
                // In `failures`, as the policy has the mode.
                Verdict::Fail | Verdict::Exempt | Verdict::NoRule => None,
            };
            if let Some(mode) = record.mode.and_then(|mode| modes.get_mut(mode.index())) {
                *mode = fared;
            }
            let key = record.key.as_deref().unwrap_or_default();
            let mut held = HeldRule { side, specific: is_specific(key), decided: true, verdict, modes };
            held.fail(record.failures.iter().filter(|failure| failure.rule == rule && failure.side == side));
            *place = Some(held);
            observed.texts.push(rule);
            observed.texts.push(key);
        }
        let decided = |failure: &FailureRecord<'_>| Some(failure.side) == record.side;
        for side in Side::ALL {
            let mut others = record.failures.iter().filter(|f| !decided(f) && f.side == side).peekable();
            // A place is taken only where there is something to put there.
            let Some(first) = others.peek().copied() else { continue };
            let Some(place) = places.next() else { break };
            let specific = is_specific(&first.key);
            let mut held = HeldRule {
                side,
                specific,
                decided: false,
                verdict: Verdict::Fail,
                modes: [None; Mode::COUNT],
            };
            held.fail(others);
            *place = Some(held);
            observed.texts.push(&first.rule);
            observed.texts.push(&first.key);
        }
        Some(observed)
    }

    fn begin(facts: &Facts<'_>, at: jiff::Timestamp, verdict: Verdict, disposition: Disposition) -> Self {
        let mut texts = Texts { all: String::with_capacity(192), ..Texts::default() };
        texts.push(facts.confirmed_name().filter(|name| name.len() <= MAX_NAME).unwrap_or_default());
        for told in [&facts.tls.version, &facts.tls.cipher, &facts.tls.verify] {
            texts.push(cut(told.as_deref().unwrap_or_default()));
        }
        Self {
            at: at.as_second(),
            direction: facts.direction,
            address: facts.lookup_ip(),
            bits: facts.effective_bits(),
            verdict,
            disposition,
            settled: false,
            authenticated: false,
            held: [None; SIDES],
            texts,
        }
    }

    fn reason(&mut self, settled: bool, reason: Option<Reason<'_>>) {
        let reason = reason.filter(|_| settled);
        self.settled = settled;
        self.authenticated = reason == Some(Reason::Words(AUTHENTICATED));
        match reason {
            None => self.texts.push(""),
            Some(Reason::Words(words)) => self.texts.push(words),
            Some(reason) => self.texts.write(reason),
        }
    }

    /// The peer's name, if it is confirmed.
    pub(super) fn name(&self) -> &str {
        self.texts.get(NAME)
    }

    pub(super) fn version(&self) -> &str {
        self.texts.get(VERSION)
    }

    pub(super) fn cipher(&self) -> &str {
        self.texts.get(CIPHER)
    }

    pub(super) fn verify(&self) -> &str {
        self.texts.get(VERIFY)
    }

    /// Why `[exempt]` settled it.
    pub(super) fn exempt_for(&self) -> &str {
        self.texts.get(REASON)
    }

    /// The name of the rule in that place of [`Self::held`].
    pub(super) fn rule(&self, place: usize) -> &str {
        self.texts.get(RULES + 2 * place)
    }

    /// Its key.
    pub(super) fn key(&self, place: usize) -> &str {
        self.texts.get(RULES + 2 * place + 1)
    }
}

impl HeldRule {
    fn fail<'r>(&mut self, failures: impl Iterator<Item = &'r FailureRecord<'r>>) {
        for failure in failures {
            if let Some(mode) = self.modes.get_mut(failure.mode.index()) {
                *mode = Some(Fared::Failed);
            }
        }
    }
}

fn is_specific(key: &str) -> bool {
    !matches!(key, "" | "*")
}

/// What a rule alone would say: what it exempts, and then the worst of its modes.
fn verdict_of(held: &Held<'_>) -> Verdict {
    let any = |fared| held.modes.contains(&Some(fared));
    if any(Fared::Failed) {
        Verdict::Fail
    } else if held.exempt {
        Verdict::Exempt
    } else if any(Fared::NotTold) {
        Verdict::Unknown
    } else {
        Verdict::Pass
    }
}
