//! From a right-hand side's demand to a requirement of the policy.
//!
//! Promises: the requirement is met where sendmail accepts, and fails where it refuses, in the same words; where
//! the words differ it is said, and where even the verdict could, that is said too ([`Lowered::exact`]).

use super::access_map::IssuerTags;
use super::rhs::{Demand, ExtensionDemand, can_match};
use crate::policy::requirement::{Attribute, CertificateName, Requirement, Wanted};

/// A demand as a requirement.
#[derive(Debug)]
pub struct Lowered {
    /// The requirement.
    pub requirement: Requirement,
    /// How it differs from sendmail, if it does. What the line's own faults say is not said again.
    pub note: Option<String>,
    /// Whether the verdict is sendmail's in every case.
    pub exact: bool,
}

/// Makes a requirement of a demand.
pub fn lower(demand: &Demand, tags: &IssuerTags<'_>) -> Lowered {
    let mut lowering = Lowering { notes: Vec::new(), exact: true, certificate: Vec::new() };
    let bits = demand.bits.as_ref().filter(|bits| bits.number > 0);
    let min_bits = bits.map(|bits| {
        u16::try_from(bits.number).unwrap_or_else(|_| {
            lowering.notes.push(format!(
                "`{}` is {} in the policy: no cipher has either",
                bits.text,
                u16::MAX
            ));
            u16::MAX
        })
    });
    let mut extensions = demand.extensions.iter().peekable();
    while let Some(extension) = extensions.next() {
        let (attribute, wanted) = match &extension.demand {
            ExtensionDemand::CnOfPeer => (Attribute::CommonName, Wanted::OfPeer),
            ExtensionDemand::Name(attribute, name) if can_match(name) => {
                (*attribute, Wanted::Is(name.clone()))
            }
            ExtensionDemand::Name(attribute, name) => {
                // But for who has no such name at all, where none is written.
                if name.is_empty() {
                    let tag = attribute.extension();
                    lowering.notes.push(format!("{tag} `` can never match: the policy refuses everyone"));
                    lowering.exact = false;
                }
                (*attribute, Wanted::OneOf(Vec::new()))
            }
            ExtensionDemand::IssuerTag(tag) => {
                if extensions.peek().is_some() && lowering.accepts_at_once(tag, tags) {
                    // What a policy cannot say is left out on the side of who is to be let through.
                    extensions = [].iter().peekable();
                }
                (Attribute::Issuer, lowering.issuers(tag, tags))
            }
        };
        lowering.add(attribute, wanted);
    }
    let Lowering { notes, exact, certificate } = lowering;
    let mut requirement =
        Requirement { min_bits, verify: demand.verify, certificate, ..Requirement::default() };
    requirement.handshake = requirement.is_empty();
    Lowered { requirement, note: (!notes.is_empty()).then(|| notes.join("; ")), exact }
}

struct Lowering {
    notes: Vec<String>,
    exact: bool,
    certificate: Vec<CertificateName>,
}

impl Lowering {
    /// Whether a line below a tag says something else than OK: sendmail then accepts the issuer, and looks at no
    /// further demand.
    fn accepts_at_once(&mut self, tag: &str, tags: &IssuerTags<'_>) -> bool {
        let odd = tags.get(tag).iter().find(|(_, value)| !value.eq_ignore_ascii_case("OK"));
        if let Some((issuer, value)) = odd {
            self.notes.push(format!(
                "sendmail accepts the issuer `{issuer}` ({tag}: {value}) without the demands behind CITag; \
                 they are left out for all"
            ));
            self.exact = false;
        }
        odd.is_some()
    }

    /// The issuers whose lines are below a tag.
    fn issuers(&mut self, tag: &str, tags: &IssuerTags<'_>) -> Wanted {
        let issuers = tags.get(tag).iter().map(|(issuer, _)| *issuer).filter(|issuer| !issuer.is_empty());
        let names: Vec<String> = issuers.map(str::to_owned).collect();
        if names.is_empty() {
            self.notes.push(format!("no line `{tag}:issuer OK`: sendmail refuses everyone"));
        }
        Wanted::OneOf(names)
    }

    /// Adds a demand; a policy has one for each attribute.
    fn add(&mut self, attribute: Attribute, wanted: Wanted) {
        let Some(there) = self.certificate.iter_mut().find(|name| name.attribute == attribute) else {
            self.certificate.push(CertificateName { attribute, wanted });
            return;
        };
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let both = match (&there.wanted, &wanted) {
            (Wanted::OfPeer, Wanted::OfPeer) => Wanted::OfPeer,
            (Wanted::Is(one), Wanted::Is(two)) if same(one, two) => return,
            (Wanted::Is(one), Wanted::OneOf(names)) | (Wanted::OneOf(names), Wanted::Is(one))
                if names.iter().any(|name| same(name, one)) =>
            {
                Wanted::Is(one.clone())
            }
            (Wanted::OneOf(one), Wanted::OneOf(two)) => Wanted::OneOf(
                one.iter().filter(|name| two.iter().any(|other| same(name, other))).cloned().collect(),
            ),
            // sendmail demands that the peer has that name too.
            (Wanted::OfPeer, Wanted::Is(name)) | (Wanted::Is(name), Wanted::OfPeer) => {
                self.exact = false;
                Wanted::Is(name.clone())
            }
            _ => Wanted::OneOf(Vec::new()),
        };
        if there.wanted != both || !self.exact {
            let tag = attribute.extension();
            self.notes.push(format!("two demands on {tag}: the policy has one, and may word it otherwise"));
            there.wanted = both;
        }
    }
}
