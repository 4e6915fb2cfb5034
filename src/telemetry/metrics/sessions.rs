//! How many sessions there were, by direction, TLS version and key bits; and what the MTA did not tell.
//!
//! Promises: the labels are fixed sets, whatever an MTA or a peer comes up with.

use super::reference::{BITS, FACT_NAMES, VERSIONS};
use crate::policy::decide::{Decision, Reason, Verdict};
use crate::policy::facts::{Direction, TlsState};
use crate::policy::negotiated::Negotiated;
use std::sync::atomic::{AtomicU64, Ordering};

/// Both directions, as they are counted.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];
/// What the decision says was not told, and what it is called here; what none of them is found in is `other`.
const FACTS: [(&str, &str); 7] = [
    ("{client_addr}", "client_addr"),
    ("{cipher_bits}", "cipher_bits"),
    ("{tls_version}", "tls_version"),
    ("{verify}", "verify"),
    ("{cn_", "certificate"),
    ("{cert_", "certificate"),
    ("the name of the other side", "peer_name"),
];
pub(super) fn index_of(direction: Direction) -> usize {
    usize::from(direction == Direction::Outbound)
}

/// Where a word stands, or the `otherwise`.
fn place(words: &[&str], word: &str, otherwise: &str) -> usize {
    let find = |word: &str| words.iter().position(|known| *known == word);
    find(word).or_else(|| find(otherwise)).unwrap_or(0)
}

/// Sessions.
#[derive(Debug)]
pub(super) struct Sessions([AtomicU64; 2 * VERSIONS.len() * BITS.len()]);

impl Default for Sessions {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Sessions {
    /// Counts one.
    pub(super) fn count(&self, direction: Direction, negotiated: Negotiated) {
        let version = match (negotiated.state, negotiated.version) {
            (TlsState::Plaintext, _) => place(&VERSIONS, "none", "other"),
            (TlsState::NotTold, _) => place(&VERSIONS, "unknown", "other"),
            (TlsState::Tls, None) => place(&VERSIONS, "other", "other"),
            (TlsState::Tls, Some(version)) => {
                // Once for each session: what is written here is of no weight.
                place(&VERSIONS, &version.to_string(), "other")
            }
        };
        let bits = match negotiated.bits {
            None => place(&BITS, "unknown", "other"),
            Some(bits) => place(&BITS, &bits.to_string(), "other"),
        };
        let place = (index_of(direction) * VERSIONS.len() + version) * BITS.len() + bits;
        if let Some(count) = self.0.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every number that is not zero: direction, version, bits, how many.
    pub(super) fn all(&self) -> impl Iterator<Item = (Direction, &'static str, &'static str, u64)> {
        let labels = DIRECTIONS.into_iter().flat_map(|direction| {
            VERSIONS.into_iter().flat_map(move |version| BITS.map(|bits| (direction, version, bits)))
        });
        labels
            .zip(&self.0)
            .map(|((direction, version, bits), count)| {
                (direction, version, bits, count.load(Ordering::Relaxed))
            })
            .filter(|(.., count)| *count > 0)
    }
}

/// What was not told, by direction.
#[derive(Debug, Default)]
pub(super) struct Unknown([[AtomicU64; FACT_NAMES.len()]; 2]);

impl Unknown {
    /// Counts a decision, if its verdict is `unknown`.
    pub(super) fn count(&self, direction: Direction, decision: &Decision<'_>) {
        if decision.verdict != Verdict::Unknown {
            return;
        }
        let what = if let Some(Reason::NotTold(what)) = decision.reason { what } else { "" };
        let told = FACTS.iter().find(|(words, _)| what.contains(words)).map_or("other", |(_, name)| name);
        let counts = self.0.get(index_of(direction));
        if let Some(count) = counts.and_then(|counts| counts.get(place(&FACT_NAMES, told, "other"))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every number: those of fixed sets are served from the beginning, so that the first one is seen as a growth.
    pub(super) fn all(&self) -> impl Iterator<Item = (Direction, &'static str, u64)> {
        DIRECTIONS.into_iter().zip(&self.0).flat_map(|(direction, counts)| {
            FACT_NAMES
                .into_iter()
                .zip(counts)
                .map(move |(fact, count)| (direction, fact, count.load(Ordering::Relaxed)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::facts::{Facts, Told};

    #[test]
    fn whatever_is_told_the_labels_are_known_words() {
        let sessions = Sessions::default();
        for (version, bits) in [
            (None, None),
            (Some("TLSv1.3"), Some("256")),
            (Some("TLSv1/SSLv3"), Some("168")),
            (Some("TLSv9\nevil"), Some("77")),
            (Some("TLSv1.9"), Some("0")),
            (Some("TLSv1.2"), None),
            (Some("SSLv3"), Some("many")),
        ] {
            let told = Told {
                peer_addr: Some(b"192.0.2.7"),
                tls_version: version.map(str::as_bytes),
                cipher_bits: bits.map(str::as_bytes),
                ..Told::default()
            };
            sessions.count(Direction::Inbound, Negotiated::of(&Facts::inbound(&told)));
        }
        sessions.count(Direction::Outbound, Negotiated::of(&Facts::default()));
        let seen: Vec<_> = sessions.all().map(|(_, version, bits, count)| (version, bits, count)).collect();
        assert_eq!(
            seen,
            [
                ("none", "0", 1),
                ("SSLv3", "unknown", 1),
                ("TLSv1", "168", 1),
                ("TLSv1.2", "unknown", 1),
                ("TLSv1.3", "256", 1),
                ("other", "0", 1),
                ("other", "other", 1),
                ("unknown", "unknown", 1),
            ]
        );
    }
}
