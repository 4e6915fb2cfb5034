//! The compiled index: from a name, an address or a mail address to the most specific key's rule.
//!
//! Promises: a lookup costs one hash probe for each label of a name and one for each prefix length in use,
//! whether the policy has ten keys or a million; the memory for all labels is waited for at once. All names of a side lie
//! in one arena, so that a policy of a million names is dropped in no time (the answering threads must never pay for an old
//! policy's end).

mod names;
mod networks;
mod places;

use super::domain::{self, NameBuffer};
use super::network::{Network, parse_address};
use super::rule::{Rule, Side, Standing};
use names::{NameTable, Sought};
use networks::NetworkTable;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// A rule's position in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(u32);

impl RuleId {
    /// The rule at this position. A policy of more than 2^32 rules is refused long before (its size).
    pub fn new(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// The position.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// For so many of a subject's names the memory is fetched before the first is looked at: for a host with so many labels,
/// and hardly any has more.
const AT_ONCE: usize = 8;

/// A key of the policy, in the form for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'p> {
    /// A domain, or a mail address on the sides that have them.
    Name(&'p str),
    /// An address or a network.
    Network(Network),
    /// The same in brackets: a host that has no confirmed name, or the domain of a mail address that is an
    /// address literal (RFC 5321 section 4.1.3).
    Literal(Network),
    /// `*`
    Any,
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Network(network) => network.fmt(f),
            Self::Literal(network) => write!(f, "[{network}]"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A key that has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'p> {
    /// The key.
    pub key: Key<'p>,
    /// Its rule.
    pub rule: RuleId,
}

/// A key that was tried, for whoever wants to know why a rule applied ([`SideIndex::candidates`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The key, in the form for comparison.
    pub key: String,
    /// Its kind among those that are tried, counted from 0: a `skip` ends the search among one kind.
    pub kind: usize,
    /// The rule that has it, if one has.
    pub rule: Option<RuleId>,
}

/// Why a key could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// A rule has it already.
    Taken(RuleId),
    /// 4 GiB of names on one side, or a name of 64 KiB.
    Full,
}

/// The keys of one side.
#[derive(Debug, Default)]
pub struct SideIndex {
    names: NameTable,
    networks: NetworkTable,
    literals: NetworkTable,
    any: Option<RuleId>,
}

/// Who is looked up on a side.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A host: its name if it is confirmed, and its address.
    Host {
        /// The confirmed name, in whatever form.
        name: Option<&'a str>,
        /// The address.
        address: Option<IpAddr>,
    },
    /// A mail address, without angle brackets.
    Address(&'a str),
    /// The mail address of a delivery: as sendmail's `TLS_Rcpt` does, also without its `+detail`, and as a
    /// user at whatever domain (`user@`).
    Delivery(&'a str),
}

/// What follows from a key that was tried.
enum Step {
    /// The next key is tried.
    Next,
    /// The next kind of key is tried.
    NextKind,
    /// It has been found.
    Found,
}

impl SideIndex {
    /// Adds a key. Names must be in the form for comparison ([`domain::key`]).
    pub fn insert(&mut self, key: Key<'_>, rule: RuleId) -> Result<(), InsertError> {
        match key {
            Key::Name(name) => self.names.insert(name, rule),
            Key::Network(network) => self.networks.insert(network, rule),
            Key::Literal(network) => self.literals.insert(network, rule),
            Key::Any => match self.any {
                Some(taken) => Err(InsertError::Taken(taken)),
                None => {
                    self.any = Some(rule);
                    Ok(())
                }
            },
        }
    }

    /// Makes room for so many keys of so many bytes in all that are like this one.
    pub fn reserve(&mut self, like: Key<'_>, keys: usize, bytes: usize) {
        match like {
            Key::Name(_) => self.names.reserve(keys, bytes),
            Key::Network(network) => self.networks.reserve(network, keys),
            Key::Literal(network) => self.literals.reserve(network, keys),
            Key::Any => {}
        }
    }

    /// Has the memory fetched that adding this key will look at. A million that are added some dozens at a time, fetched
    /// before, take half as long as one by one.
    pub fn fetch(&self, key: Key<'_>) {
        match key {
            Key::Name(name) => self.names.fetch(Sought::new(name)),
            Key::Network(network) => self.networks.fetch(network),
            Key::Literal(network) => self.literals.fetch(network),
            Key::Any => {}
        }
    }

    /// The rule of exactly this key.
    pub fn get(&self, key: Key<'_>) -> Option<RuleId> {
        match key {
            Key::Name(name) => self.names.get(Sought::new(name)).map(|(_, rule)| rule),
            Key::Network(network) => self.networks.get(network),
            Key::Literal(network) => self.literals.get(network),
            Key::Any => self.any,
        }
    }

    /// Every key with its rule: names, then networks, then addresses in brackets, each in the order in which they were
    /// added, then `*`.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        let names = self.names.iter().map(|(name, rule)| Found { key: Key::Name(name), rule });
        let networks = self.networks.iter().map(|(network, rule)| Found { key: Key::Network(network), rule });
        let literals = self.literals.iter().map(|(network, rule)| Found { key: Key::Literal(network), rule });
        let any = self.any.map(|rule| Found { key: Key::Any, rule });
        names.chain(networks).chain(literals).chain(any)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        let networks = self.networks.len() + self.literals.len();
        self.names.len() + networks + usize::from(self.any.is_some())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most specific key whose rule stands: a host's name and its parents (or, where it has none, its
    /// address in brackets), then its address and the networks around it, longest prefix first, then `*`. A
    /// mail address as it stands, then its domain and the parents, then `*`.
    pub fn find(&self, subject: Subject<'_>, standing: impl Fn(RuleId) -> Standing) -> Option<Found<'_>> {
        // Most policies have keys on one side or two: what has none need not be put in the form for comparison.
        if self.is_empty() {
            return None;
        }
        let mut found = None;
        self.walk(subject, |_, _, hit| {
            let Some(hit) = hit else { return Step::Next };
            match standing(hit.rule) {
                Standing::Absent => Step::Next,
                Standing::Skips => Step::NextKind,
                Standing::InForce => {
                    found = Some(hit);
                    Step::Found
                }
            }
        });
        found
    }

    /// Every key that [`Self::find`] would try were none ever found, in order. Allocates: to explain, not
    /// to decide.
    pub fn candidates(&self, subject: Subject<'_>) -> Vec<Tried> {
        let mut tried = Vec::new();
        self.walk(subject, |kind, key, hit| {
            tried.push(Tried { key: key.to_string(), kind, rule: hit.map(|hit| hit.rule) });
            Step::Next
        });
        tried
    }

    /// Probes key after key, the most specific first, until `visit` has found what it looks for.
    fn walk<'p>(
        &'p self,
        subject: Subject<'_>,
        mut visit: impl FnMut(usize, Key<'_>, Option<Found<'p>>) -> Step,
    ) {
        let any = self.any.map(|rule| Found { key: Key::Any, rule });
        let mut search = Search { side: self, kind: 0, visit: &mut visit };
        let found = match subject {
            Subject::Host { name, address } => search.host(name, address),
            Subject::Address(address) => search.address(address, false),
            Subject::Delivery(address) => search.address(address, true),
        };
        let kind = search.kind;
        if !found {
            visit(kind, Key::Any, any);
        }
    }

    /// A number that is the same for the same keys of the same rules, in whatever order they were added.
    /// Part of the [`super::Fingerprint`].
    pub(super) fn digest(&self, rules: &[Rule]) -> u128 {
        use siphasher::sip128::{Hasher128, SipHasher13};
        let mut sum = 0u128;
        for found in self.iter() {
            let mut hasher = SipHasher13::new();
            // No name begins with such a byte. As text, a network would cost more than all else of its loading.
            match found.key {
                Key::Name(name) => hasher.write(name.as_bytes()),
                Key::Any => hasher.write(b"*"),
                Key::Network(network) => (1u8, network).hash(&mut hasher),
                Key::Literal(network) => (2u8, network).hash(&mut hasher),
            }
            hasher.write_u8(0);
            hasher.write(rules.get(found.rule.index()).map(|rule| rule.name.as_bytes()).unwrap_or_default());
            sum = sum.wrapping_add(hasher.finish128().as_u128());
        }
        sum
    }
}

/// One walk over the keys of a subject. Each step says whether what was looked for has been found.
struct Search<'s, 'p, V> {
    side: &'p SideIndex,
    kind: usize,
    visit: &'s mut V,
}

impl<'p, V: FnMut(usize, Key<'_>, Option<Found<'p>>) -> Step> Search<'_, 'p, V> {
    /// The keys of one kind, the most specific first.
    fn kind<'k>(&mut self, keys: impl Iterator<Item = (Key<'k>, Option<Found<'p>>)>) -> bool {
        let mut found = false;
        for (key, hit) in keys {
            match (self.visit)(self.kind, key, hit) {
                Step::Next => {}
                Step::NextKind => break,
                Step::Found => {
                    found = true;
                    break;
                }
            }
        }
        self.kind += 1;
        found
    }

    fn names<'k>(&mut self, mut names: impl Iterator<Item = &'k str>) -> bool {
        let table = &self.side.names;
        let mut first = [Sought::default(); AT_ONCE];
        let mut count = 0;
        for (sought, name) in first.iter_mut().zip(names.by_ref()) {
            *sought = Sought::new(name);
            table.fetch(*sought);
            count += 1;
        }
        let first = first.iter().take(count).copied();
        self.kind(first.chain(names.map(Sought::new)).map(|sought| {
            let hit = table.get(sought).map(|(name, rule)| Found { key: Key::Name(name), rule });
            (Key::Name(sought.name), hit)
        }))
    }

    fn networks(
        &mut self,
        table: &NetworkTable,
        address: IpAddr,
        as_key: fn(Network) -> Key<'static>,
    ) -> bool {
        self.kind(
            table.probe(address).map(|(network, rule)| {
                (as_key(network), rule.map(|rule| Found { key: as_key(network), rule }))
            }),
        )
    }

    fn host(&mut self, name: Option<&str>, address: Option<IpAddr>) -> bool {
        let side = self.side;
        let mut buffer = NameBuffer::default();
        let found = match (name.and_then(|name| buffer.normalised(name)), address) {
            (Some(name), _) => self.names(domain::self_and_parents(name)),
            (None, Some(address)) => self.networks(&side.literals, address, Key::Literal),
            (None, None) => false,
        };
        found || address.is_some_and(|address| self.networks(&side.networks, address, Key::Network))
    }

    fn address(&mut self, address: &str, delivery: bool) -> bool {
        let (local, domain) = domain::split_address(address);
        // `joe+x` is `joe` too: sendmail asks for the whole, for any detail, and for none.
        let user = local.split_once('+').map(|(user, _)| user).filter(|user| delivery && !user.is_empty());
        let variants = [Some((local, "")), user.map(|user| (user, "+*")), user.map(|user| (user, ""))];
        let at = |domain: &str| variants.map(|local| local.and_then(|local| WholeAddress::of(local, domain)));
        let mut buffer = NameBuffer::default();
        let domain = domain.and_then(|domain| buffer.normalised(domain));
        if let Some(domain) = domain
            && self.names(at(domain).iter().flatten().map(WholeAddress::as_str))
        {
            return true;
        }
        if delivery && self.names(at("").iter().flatten().map(WholeAddress::as_str)) {
            return true;
        }
        let Some(domain) = domain else { return false };
        let side = self.side;
        match parse_address(domain).filter(|_| domain.starts_with('[')) {
            Some(literal) => self.networks(&side.literals, literal, Key::Literal),
            None => self.names(domain::self_and_parents(domain)),
        }
    }
}

/// The longest address that SMTP carries: 64 octets, `@`, and a domain (RFC 5321 section 4.5.3.1).
const MAX_ADDRESS: usize = 64 + 1 + domain::MAX_LENGTH;

/// A whole mail address in the form for comparison, on the stack.
struct WholeAddress {
    buffer: [u8; MAX_ADDRESS],
    length: usize,
}

impl WholeAddress {
    /// Of a local part in two pieces and a domain, which may be empty.
    fn of((local, detail): (&str, &str), domain: &str) -> Option<Self> {
        let mut address = Self { buffer: [0; MAX_ADDRESS], length: 0 };
        for piece in [local, detail, "@", domain] {
            let end = address.length + piece.len();
            address.buffer.get_mut(address.length..end)?.copy_from_slice(piece.as_bytes());
            address.length = end;
        }
        address.buffer.make_ascii_lowercase();
        Some(address)
    }

    fn as_str(&self) -> &str {
        // Whole strings were copied in, and lower-casing ASCII keeps them UTF-8.
        self.buffer.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// The keys of all sides.
#[derive(Debug, Default)]
pub struct Index {
    sides: [SideIndex; Side::ALL.len()],
}

impl Index {
    /// The keys of a side.
    pub fn side(&self, side: Side) -> &SideIndex {
        let [client, sender, recipient, server, recipient_outbound] = &self.sides;
        match side {
            Side::Client => client,
            Side::Sender => sender,
            Side::Recipient => recipient,
            Side::Server => server,
            Side::RecipientOutbound => recipient_outbound,
        }
    }

    /// The keys of a side, to add to.
    pub fn side_mut(&mut self, side: Side) -> &mut SideIndex {
        let [client, sender, recipient, server, recipient_outbound] = &mut self.sides;
        match side {
            Side::Client => client,
            Side::Sender => sender,
            Side::Recipient => recipient,
            Side::Server => server,
            Side::RecipientOutbound => recipient_outbound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::network::parse_address;

    fn index(keys: &[&str]) -> SideIndex {
        let mut side = SideIndex::default();
        for (id, key) in keys.iter().enumerate() {
            let key = match Network::parse(key) {
                _ if *key == "*" => Key::Any,
                Some(written) => Key::Network(written.unwrap().network),
                None => Key::Name(key),
            };
            side.insert(key, RuleId::new(id)).unwrap();
        }
        side
    }

    fn host(side: &SideIndex, name: Option<&str>, address: &str) -> Option<String> {
        let subject = Subject::Host { name, address: parse_address(address) };
        side.find(subject, |_| Standing::InForce).map(|found| found.key.to_string())
    }

    #[test]
    fn a_name_beats_an_address_and_an_address_beats_any() {
        let side = index(&["partner.example", "mx.partner.example", "192.0.2.0/24", "192.0.2.7", "*"]);
        let expect = |name, address, key: &str| {
            assert_eq!(host(&side, name, address).as_deref(), Some(key), "{name:?} {address}");
        };
        expect(Some("a.mx.partner.example"), "192.0.2.7", "mx.partner.example");
        expect(Some("MX2.Partner.Example."), "192.0.2.7", "partner.example");
        expect(Some("notpartner.example"), "192.0.2.7", "192.0.2.7");
        expect(None, "192.0.2.8", "192.0.2.0/24");
        expect(None, "198.51.100.1", "*");
    }

    #[test]
    fn a_rule_that_is_not_in_force_does_not_shadow() {
        let side = index(&["mx.partner.example", "partner.example"]);
        let subject = Subject::Host { name: Some("mx.partner.example"), address: None };
        let found = side
            .find(subject, |rule| if rule == RuleId::new(0) { Standing::Absent } else { Standing::InForce })
            .unwrap();
        assert_eq!(found.key, Key::Name("partner.example"));
    }

    #[test]
    fn a_mail_address_beats_its_domain() {
        let side = index(&["ceo@partner.example", "partner.example", "*"]);
        let find =
            |address| side.find(Subject::Address(address), |_| Standing::InForce).unwrap().key.to_string();
        assert_eq!(find("CEO@Partner.Example"), "ceo@partner.example");
        assert_eq!(find("x@sub.partner.example"), "partner.example");
        assert_eq!(find("ceo@sub.partner.example"), "partner.example");
        assert_eq!(find("postmaster"), "*");
        assert_eq!(find(&format!("{}@partner.example", "x".repeat(5000))), "partner.example");
    }

    #[test]
    fn what_was_tried_is_told_in_order() {
        let side = index(&["partner.example", "192.0.2.0/24"]);
        let subject = Subject::Host { name: Some("mx.partner.example"), address: parse_address("192.0.2.7") };
        let tried: Vec<_> = side.candidates(subject).into_iter().map(|tried| tried.key).collect();
        assert_eq!(tried, ["mx.partner.example", "partner.example", "example", "192.0.2.0/24", "*"]);
    }

    #[test]
    fn the_digest_does_not_know_the_order() {
        let rules =
            vec![Rule { name: "a".into(), ..Rule::default() }, Rule { name: "b".into(), ..Rule::default() }];
        let mut left = SideIndex::default();
        left.insert(Key::Name("x"), RuleId::new(0)).unwrap();
        left.insert(Key::Any, RuleId::new(1)).unwrap();
        let mut right = SideIndex::default();
        right.insert(Key::Any, RuleId::new(1)).unwrap();
        right.insert(Key::Name("x"), RuleId::new(0)).unwrap();
        assert_eq!(left.digest(&rules), right.digest(&rules));
        let mut other = SideIndex::default();
        other.insert(Key::Any, RuleId::new(0)).unwrap();
        other.insert(Key::Name("x"), RuleId::new(1)).unwrap();
        assert_ne!(left.digest(&rules), other.digest(&rules));
    }
}
