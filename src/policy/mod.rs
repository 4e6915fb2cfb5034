//! The decision, and all that it is made of.
//!
//! Pure: functions of values. No clock, no files, no sockets, no log, no tokio, no milter. What comes in
//! are strings that an MTA (or a record, or a command line) told; what comes out is a verdict, what is to
//! be done, and why. Two hosts with the same policy, given the same values, agree to the last byte.
//!
//! The way through: [`facts`] makes sense of what was told, [`lookup`] finds the most specific key of each
//! side, [`decide`] holds the rule's requirements ([`requirement`]) against the facts, [`reply`] words a refusal so
//! that sendmail does not mangle it, [`record`] is the one form in which a decision is written down.

pub mod attempt;
pub mod decide;
pub mod domain;
pub mod facts;
pub mod gate;
pub mod lookup;
pub mod negotiated;
pub mod network;
pub mod record;
pub mod reply;
pub mod requirement;
pub mod rule;
pub mod stamp;
pub mod step;
mod text;

use gate::Gate;
use rule::{Exempt, Rule};

/// A policy, compiled and immutable. Made by [`crate::policy_file`].
#[derive(Debug)]
pub struct Policy {
    /// Every rule, in the order of the files. Their position is their [`lookup::RuleId`].
    rules: Vec<Rule>,
    index: lookup::Index,
    exempt: Exempt,
    contact: Option<String>,
    gate: Gate,
    /// Of each side's keys with their rules ([`lookup::SideIndex`]): two that are alike say that nothing differs.
    digests: [u128; rule::Side::ALL.len()],
    fingerprint: Fingerprint,
}

impl Default for Policy {
    /// No rules, and the default exemptions.
    fn default() -> Self {
        Self::new(Vec::new(), lookup::Index::default(), Exempt::default(), None)
    }
}

impl Policy {
    /// Puts a policy together. The keys in `index` must name positions in `rules`; a key that does not is
    /// as if it were not there.
    pub fn new(rules: Vec<Rule>, index: lookup::Index, exempt: Exempt, contact: Option<String>) -> Self {
        let gate = Gate::default();
        let digests = rule::Side::ALL.map(|side| index.side(side).digest(&rules));
        let fingerprint = Fingerprint::default();
        let mut policy = Self { rules, index, exempt, contact, gate, digests, fingerprint };
        policy.fingerprint = Fingerprint::of(&policy);
        policy
    }

    /// Every rule, in the order of the files.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that a key names.
    pub fn rule(&self, id: lookup::RuleId) -> Option<&Rule> {
        self.rules.get(id.index())
    }

    /// The keys of all rules.
    pub fn index(&self) -> &lookup::Index {
        &self.index
    }

    /// Whether another policy's rules have the same keys on a side, by their names.
    pub fn has_keys_of(&self, other: &Self, side: rule::Side) -> bool {
        let of = |policy: &Self| {
            rule::Side::ALL.iter().position(|s| *s == side).and_then(|at| policy.digests.get(at).copied())
        };
        of(self) == of(other)
    }

    /// Who is never judged.
    pub fn exempt(&self) -> &Exempt {
        &self.exempt
    }

    /// Where a refused sender finds help; part of every refusal.
    pub fn contact(&self) -> Option<&str> {
        self.contact.as_deref()
    }

    /// The same policy with another gate.
    #[must_use]
    pub fn with_gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// What the evidence must show before a rule is made harder.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What the policy means, in 12 hex digits.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whether a message can be judged for its recipients. Where not, its fate is settled at MAIL.
    pub fn judges_recipients(&self) -> bool {
        !self.index.side(rule::Side::Recipient).is_empty()
    }

    /// The same for the recipients of mail that leaves.
    pub fn judges_deliveries(&self) -> bool {
        !self.index.side(rule::Side::RecipientOutbound).is_empty()
    }

    /// Whether it has rules for mail that leaves.
    pub fn is_outbound(&self) -> bool {
        self.judges_deliveries() || !self.index.side(rule::Side::Server).is_empty()
    }
}

/// 12 hex digits that are the same for two policies of the same meaning, whatever the layout of their files.
/// Comments, the order of rules and of keys, and the way a key is spelt do not count; everything that can
/// change a decision or a reply does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    fn of(policy: &Policy) -> Self {
        use sha2::{Digest, Sha256};
        use std::fmt::Write;

        let mut text = String::from("encr-milter policy 1\n");
        // `write!` to a String cannot fail.
        let _ = writeln!(text, "{:?} {:?}", policy.exempt, policy.contact);
        let mut rules: Vec<&Rule> = policy.rules.iter().collect();
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        for rule in rules {
            let _ = writeln!(text, "{:?} {:?} {:?} {}", rule.name, rule.exemption, rule.modes, rule.skip);
        }
        for (side, digest) in rule::Side::ALL.into_iter().zip(policy.digests) {
            let _ = writeln!(text, "{side} {} {digest:x}", policy.index.side(side).len());
        }
        let hash = Sha256::digest(text.as_bytes());
        let mut hex = String::with_capacity(12);
        for byte in hash.iter().take(6) {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A day, in UTC: what `from`, `until` and `percent` are reckoned by. Days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

/// Day 0.
const EPOCH: jiff::civil::Date = jiff::civil::Date::constant(1970, 1, 1);

impl Day {
    /// 9999-12-31: no later day has a date.
    pub const LAST: Self = Self(2_932_896);

    /// The day of a point in time, given in seconds since 1970-01-01 00:00 UTC.
    pub fn of_unix_seconds(seconds: i64) -> Self {
        Self(seconds.div_euclid(86_400))
    }

    /// The day of a date of the calendar.
    pub fn of_date(date: jiff::civil::Date) -> Self {
        // In days, the span of two civil dates always fits.
        Self(date.since(EPOCH).map_or(0, |span| i64::from(span.get_days())))
    }

    /// A day as it is displayed: `2026-11-22`.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::of_date)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let date = jiff::Span::new().try_days(self.0).and_then(|days| EPOCH.checked_add(days));
        match date {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_utc() {
        assert_eq!(Day::of_unix_seconds(0), Day(0));
        assert_eq!(Day::of_unix_seconds(-1), Day(-1));
        assert_eq!(Day::of_date(jiff::civil::date(2027, 1, 15)), Day::of_unix_seconds(1_799_971_200));
        assert_eq!(Day::of_unix_seconds(1_799_971_199).to_string(), "2027-01-14");
        assert_eq!(Day::of_unix_seconds(1_799_971_200).to_string(), "2027-01-15");
    }

    #[test]
    fn every_date_is_shown_as_one() {
        for date in ["9999-12-31", "9999-12-30", "1970-01-01", "1969-12-31", "0000-01-01"] {
            assert_eq!(Day::parse(date).map(|day| day.to_string()).as_deref(), Some(date));
        }
        assert_eq!(Day::LAST.to_string(), "9999-12-31");
        assert_eq!(Day(Day::LAST.0 + 1).to_string(), "day 2932897");
    }
}
