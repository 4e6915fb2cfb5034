//! How many different hosts: exactly while they are few, estimated beyond.
//!
//! Promises: a bounded amount of memory for any number of hosts, and the same number whatever order they come in.

use crate::policy::facts::Facts;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

/// So many are counted exactly. Beyond, the error is some 5 % (one standard deviation).
pub const EXACT: usize = 400;

/// The smallest hashes of the hosts that were seen: how close together they lie says how many there are
/// (Bar-Yossef et al., 2002, "Counting distinct elements in a data stream").
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// In order, [`EXACT`] of them at the most.
    smallest: Vec<u64>,
    /// Whether any was left out.
    full: bool,
}

impl Peers {
    /// Adds the host of a connection, and says whether it was surely not seen before.
    pub(super) fn add(&mut self, facts: &Facts<'_>) -> bool {
        // The same on every run: no key.
        let mut hasher = SipHasher13::new();
        match facts.peer_ip {
            Some(ip) => ip.hash(&mut hasher),
            None => facts.peer_addr.as_ref().or(facts.peer_name.as_ref()).hash(&mut hasher),
        }
        self.add_hash(hasher.finish())
    }

    fn add_hash(&mut self, hash: u64) -> bool {
        if self.full && self.smallest.last().is_some_and(|largest| hash > *largest) {
            return false;
        }
        let Err(place) = self.smallest.binary_search(&hash) else { return false };
        self.smallest.insert(place, hash);
        if self.smallest.len() > EXACT {
            self.smallest.truncate(EXACT);
            self.full = true;
        }
        true
    }

    /// Whether [`Self::count`] is exact.
    pub fn is_exact(&self) -> bool {
        !self.full
    }

    /// How many there are, or about so many.
    pub fn count(&self) -> u64 {
        match self.smallest.last() {
            Some(&largest) if self.full => {
                // Of 2^64 places the first `largest` hold EXACT hosts, but for the one that bounds them.
                let ahead = (EXACT as u128 - 1) << 64;
                u64::try_from(ahead / u128::from(largest).max(1)).unwrap_or(u64::MAX)
            }
            _ => self.smallest.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn counted(hosts: impl Iterator<Item = u32>) -> Peers {
        let mut peers = Peers::default();
        for host in hosts {
            let ip = IpAddr::V4(Ipv4Addr::from(host));
            peers.add(&Facts { peer_ip: Some(ip), ..Facts::default() });
        }
        peers
    }

    #[test]
    fn few_are_counted_exactly_and_many_nearly() {
        for number in [0, 1, 17, 400] {
            let peers = counted((0..number).chain(0..number).chain((0..number).rev()));
            assert_eq!((peers.count(), peers.is_exact()), (u64::from(number), true));
        }
        for number in [401u32, 5_000, 300_000] {
            let peers = counted((0..number).chain(0..number / 2));
            let error = peers.count().abs_diff(u64::from(number)) * 100 / u64::from(number);
            assert!(!peers.is_exact() && error < 16, "{number}: {}", peers.count());
            assert_eq!(peers.count(), counted((0..number).rev()).count());
            assert!(peers.smallest.capacity() <= 2 * EXACT);
        }
    }

    #[test]
    fn a_host_without_an_address_is_told_by_its_name() {
        let mut peers = Peers::default();
        let named = |name: &'static str| Facts { peer_name: Some(name.into()), ..Facts::default() };
        assert!(peers.add(&named("a.example")) && peers.add(&named("b.example")));
        assert!(!peers.add(&named("a.example")));
        assert_eq!(peers.count(), 2);
    }
}
