//! Networks and their rules, and the longest prefix that an address lies in.
//!
//! Promises: a lookup costs one probe for each prefix length that the policy uses, however many networks there are; a
//! network of IPv4 costs twelve bytes and its place.

use super::places::{Places, Tag};
use super::{InsertError, RuleId};
use crate::policy::network::Network;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The networks of one side of a policy, each with its rule.
#[derive(Debug, Default)]
pub(super) struct NetworkTable {
    v4: Family<[u8; 4]>,
    v6: Family<[u8; 16]>,
}

/// The networks of one family of addresses: IPv4's have four bytes, IPv6's sixteen.
#[derive(Debug, Default)]
struct Family<A> {
    entries: Vec<Entry<A>>,
    /// The position of each.
    places: Places,
    /// The prefix lengths in use, longest first.
    lengths: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    address: A,
    length: u8,
    rule: RuleId,
}

impl<A: Copy + Eq> Family<A> {
    fn get(&self, tag: Tag, address: A, length: u8) -> Option<RuleId> {
        self.places.find(tag, |place| {
            let entry = self.entries.get(place as usize)?;
            (entry.address == address && entry.length == length).then_some(entry.rule)
        })
    }

    fn insert(&mut self, tag: Tag, address: A, length: u8, rule: RuleId) -> Result<(), InsertError> {
        if let Some(taken) = self.get(tag, address, length) {
            return Err(InsertError::Taken(taken));
        }
        let place = u32::try_from(self.entries.len()).map_err(|_| InsertError::Full)?;
        self.entries.push(Entry { address, length, rule });
        self.places.add(tag, place);
        if let Err(position) = self.lengths.binary_search_by(|known| length.cmp(known)) {
            self.lengths.insert(position, length);
        }
        Ok(())
    }

    fn reserve(&mut self, networks: usize) {
        self.entries.reserve(networks);
        self.places.reserve(networks);
    }

    fn iter(&self, to_address: fn(A) -> IpAddr) -> impl Iterator<Item = (Network, RuleId)> {
        let network = move |entry: &Entry<A>| Network::of_prefix(to_address(entry.address), entry.length);
        self.entries.iter().filter_map(move |entry| Some((network(entry)?, entry.rule)))
    }
}

impl NetworkTable {
    /// Makes room for so many of the family that this one is of.
    pub(super) fn reserve(&mut self, like: Network, networks: usize) {
        match like.address() {
            IpAddr::V4(_) => self.v4.reserve(networks),
            IpAddr::V6(_) => self.v6.reserve(networks),
        }
    }

    /// Has the memory fetched that finding this network needs.
    pub(super) fn fetch(&self, network: Network) {
        let tag = Tag::of(&network);
        match network.address() {
            IpAddr::V4(_) => self.v4.places.fetch(tag),
            IpAddr::V6(_) => self.v6.places.fetch(tag),
        }
    }

    /// Adds a network.
    pub(super) fn insert(&mut self, network: Network, rule: RuleId) -> Result<(), InsertError> {
        let (tag, length) = (Tag::of(&network), network.length());
        match network.address() {
            IpAddr::V4(address) => self.v4.insert(tag, address.octets(), length, rule),
            IpAddr::V6(address) => self.v6.insert(tag, address.octets(), length, rule),
        }
    }

    /// The rule of exactly this network.
    pub(super) fn get(&self, network: Network) -> Option<RuleId> {
        let (tag, length) = (Tag::of(&network), network.length());
        match network.address() {
            IpAddr::V4(address) => self.v4.get(tag, address.octets(), length),
            IpAddr::V6(address) => self.v6.get(tag, address.octets(), length),
        }
    }

    /// Every network that the address can be looked up under, longest prefix first, with its rule if there is one.
    pub(super) fn probe(&self, address: IpAddr) -> impl Iterator<Item = (Network, Option<RuleId>)> {
        let lengths = if address.is_ipv4() { &self.v4.lengths } else { &self.v6.lengths };
        lengths.iter().filter_map(move |&length| {
            let network = Network::of_prefix(address, length)?;
            Some((network, self.get(network)))
        })
    }

    /// Every network, in the order in which they were added, IPv4 before IPv6.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Network, RuleId)> {
        let v4 = self.v4.iter(|address| Ipv4Addr::from(address).into());
        v4.chain(self.v6.iter(|address| Ipv6Addr::from(address).into()))
    }

    /// How many networks there are.
    pub(super) fn len(&self) -> usize {
        self.v4.entries.len() + self.v6.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::network::parse_address;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap().unwrap().network
    }

    #[test]
    fn the_longest_prefix_comes_first() {
        let mut table = NetworkTable::default();
        let written = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"];
        for (id, text) in written.iter().enumerate() {
            table.insert(network(text), RuleId::new(id)).unwrap();
        }
        let hits = |text: &str| -> Vec<usize> {
            let address = parse_address(text).unwrap();
            table.probe(address).filter_map(|(_, rule)| rule).map(RuleId::index).collect()
        };
        assert_eq!(hits("10.1.2.3"), [2, 1, 0]);
        assert_eq!(hits("10.1.2.4"), [1, 0]);
        assert_eq!(hits("10.9.9.9"), [0]);
        assert_eq!(hits("11.1.2.3"), [] as [usize; 0]);
        assert_eq!(hits("2001:db8::1"), [3]);
        let taken = Err(InsertError::Taken(RuleId::new(0)));
        assert_eq!(table.insert(network("10"), RuleId::new(9)), taken);
        assert_eq!(table.len(), 4);
        let all: Vec<(String, usize)> =
            table.iter().map(|(network, rule)| (network.to_string(), rule.index())).collect();
        let expected: Vec<(String, usize)> =
            written.iter().enumerate().map(|(id, text)| ((*text).to_owned(), id)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_network_and_one_within_that_begins_as_it_does_are_two() {
        let mut table = NetworkTable::default();
        for (id, text) in ["10.0.0.0/8", "10.0.0.0/9", "::/8", "::/9"].iter().enumerate() {
            assert_eq!(table.get(network(text)), None);
            table.insert(network(text), RuleId::new(id)).unwrap();
            assert_eq!(table.get(network(text)), Some(RuleId::new(id)));
        }
    }

    #[test]
    fn a_network_of_ipv4_costs_twelve_bytes() {
        assert_eq!(size_of::<Entry<[u8; 4]>>(), 12);
    }
}
