//! What is counted of a decision, before anything is kept of it: most of what is seen is in the counts already, or is
//! counted among the others, and then nothing is asked of the allocator for it.
//!
//! Promises: what is seen finds exactly the row that it would be kept as.

use super::observed::{HeldRule, Observed};
use super::rollup::{Row, Session};
use super::words::{fared_word, owned, word};
use crate::policy::rule::Mode;
use hashbrown::Equivalent;
use std::hash::{Hash, Hasher};

/// A [`Session`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenSession<'o> {
    direction: &'static str,
    version: &'o str,
    cipher: &'o str,
    bits: Option<u16>,
    verify: &'o str,
}

impl<'o> SeenSession<'o> {
    pub(super) fn of(observed: &'o Observed) -> Self {
        Self {
            direction: observed.direction.as_str(),
            version: observed.version(),
            cipher: observed.cipher(),
            bits: observed.bits,
            verify: observed.verify(),
        }
    }
}

impl Hash for SeenSession<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_session(self.cipher, self.bits, state);
    }
}

impl Hash for Session {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_session(&self.cipher, self.bits, state);
    }
}

/// What else tells two apart is rare.
fn hash_session(cipher: &str, bits: Option<u16>, state: &mut impl Hasher) {
    (cipher, bits).hash(state);
}

impl Equivalent<Session> for SeenSession<'_> {
    fn equivalent(&self, kept: &Session) -> bool {
        let Session { direction, version, cipher, bits, verify } = kept;
        self.direction == direction
            && self.version == version
            && self.cipher == cipher
            && self.bits == *bits
            && self.verify == verify
    }
}

impl From<SeenSession<'_>> for Session {
    fn from(seen: SeenSession<'_>) -> Self {
        Self {
            direction: seen.direction.into(),
            version: word(seen.version),
            cipher: word(seen.cipher),
            bits: seen.bits,
            verify: word(seen.verify),
        }
    }
}

/// A [`Row`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenRow<'o> {
    session: SeenSession<'o>,
    side: &'static str,
    rule: &'o str,
    key: &'o str,
    verdict: &'static str,
    disposition: &'static str,
    modes: [&'static str; Mode::COUNT],
    decided: bool,
}

impl<'o> SeenRow<'o> {
    /// Of a decision for which no rule was held.
    pub(super) fn alone(observed: &'o Observed) -> Self {
        Self {
            session: SeenSession::of(observed),
            side: "",
            rule: "",
            key: observed.exempt_for(),
            verdict: observed.verdict.as_str(),
            disposition: observed.disposition.as_str(),
            modes: [""; Mode::COUNT],
            decided: true,
        }
    }

    /// Of a rule that was held, in its place of [`Observed::held`].
    pub(super) fn of(observed: &'o Observed, place: usize, held: HeldRule) -> Self {
        Self {
            side: held.side.as_str(),
            rule: observed.rule(place),
            key: observed.key(place),
            verdict: held.verdict.as_str(),
            modes: held.modes.map(|fared| fared.map_or("", fared_word)),
            decided: held.decided,
            ..Self::alone(observed)
        }
    }
}

impl Hash for SeenRow<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_row(self.rule, self.key, self.session.bits, state);
    }
}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_row(&self.rule, &self.key, self.bits, state);
    }
}

/// What else tells two apart is rare.
fn hash_row(rule: &str, key: &str, bits: Option<u16>, state: &mut impl Hasher) {
    (rule, key, bits).hash(state);
}

impl Equivalent<Row> for SeenRow<'_> {
    fn equivalent(&self, kept: &Row) -> bool {
        let Row {
            direction,
            side,
            rule,
            key,
            version,
            cipher,
            bits,
            verify,
            verdict,
            disposition,
            modes,
            decided,
        } = kept;
        let session = self.session;
        // First what is not the same as a rule.
        self.key == key
            && self.rule == rule
            && self.side == side
            && session.bits == *bits
            && session.cipher == cipher
            && session.version == version
            && session.verify == verify
            && session.direction == direction
            && self.verdict == verdict
            && self.disposition == disposition
            && self.decided == *decided
            && self.modes.iter().zip(modes).all(|(seen, kept)| seen == kept)
    }
}

impl From<SeenRow<'_>> for Row {
    fn from(seen: SeenRow<'_>) -> Self {
        let session = Session::from(seen.session);
        Self {
            direction: session.direction,
            side: seen.side.into(),
            rule: owned(seen.rule),
            key: owned(seen.key),
            version: session.version,
            cipher: session.cipher,
            bits: session.bits,
            verify: session.verify,
            verdict: seen.verdict.into(),
            disposition: seen.disposition.into(),
            modes: seen.modes.map(Into::into),
            decided: seen.decided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    fn observed(version: &'static str, bits: &str) -> Observed {
        let record = format!(
            r#"{{"ts":"2026-11-22T02:07:29.015527Z","client_addr":"192.0.2.7","tls_version":"{version}","cipher":"X",
            "cipher_bits":{bits},"verify":"NO","verdict":"pass","disposition":"accept","mode":"enforce","rule":"r",
            "side":"client","key":"k.example"}}"#
        );
        Observed::of_record(&serde_json::from_str(&record).unwrap()).unwrap()
    }

    #[test]
    fn what_is_seen_is_what_is_kept_of_it_and_of_nothing_else() {
        let all = [observed("TLSv1.3", "256"), observed("TLSv1.2", "256"), observed("TLSv1.3", "128")];
        let seen = all.each_ref().map(|one| {
            let held = one.held[0].unwrap();
            [SeenRow::alone(one), SeenRow::of(one, 0, held)]
        });
        let state = RandomState::new();
        for (n, row) in seen.as_flattened().iter().enumerate() {
            let kept = Row::from(*row);
            assert_eq!(state.hash_one(row), state.hash_one(&kept));
            assert_eq!(state.hash_one(row.session), state.hash_one(Session::from(row.session)));
            for (m, other) in seen.as_flattened().iter().enumerate() {
                assert_eq!(other.equivalent(&kept), n == m, "{other:?} {kept:?}");
                let is_of_session = n / 2 == m / 2;
                assert_eq!(other.session.equivalent(&Session::from(row.session)), is_of_session);
            }
        }
    }
}
