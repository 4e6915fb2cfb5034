//! The right-hand sides of exported lines.
//!
//! Promises: what comes out is read back (by [`rhs`], as sendmail takes it) as exactly what was demanded, but for
//! the parts that are told to be missing. Whatever does not read back so is not held by a map, and why is said.

use crate::policy::requirement::{Attribute, CertificateName, Requirement, TlsVersion, Wanted, encode_xtext};
use crate::sendmail::rhs::{self, ExtensionDemand, Prefix, Value};
use std::borrow::Cow;

/// A demand as an access map holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The right-hand side.
    pub(super) value: String,
    /// The tags that it names, each with the issuers below it.
    pub(super) issuers: Vec<(String, Vec<String>)>,
    /// What the map does not demand, though the policy does.
    pub(super) without: Option<TlsVersion>,
}

/// What a map makes of a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// This.
    Held(Held),
    /// Nothing is needed: sendmail demands it by itself, or there is no demand.
    Nothing,
    /// It cannot hold it, for this reason.
    NotHeld(String),
}

/// Writes a requirement. `prefix` chooses the code; `tag` makes the next tag for a list of issuers.
pub(super) fn write(prefix: Prefix, requirement: &Requirement, tag: &mut impl FnMut() -> String) -> Written {
    let Requirement { min_bits, min_version, verify, certificate, .. } = requirement;
    let demand = match (*verify, *min_bits) {
        (true, Some(bits)) => format!("VERIFY:{bits}"),
        (true, None) => "VERIFY".to_owned(),
        (false, Some(bits)) => format!("ENCR:{bits}"),
        // Where names alone are demanded: no number of bits is less than 0.
        (false, None) if !certificate.is_empty() => "ENCR:0".to_owned(),
        (false, None) => {
            return match min_version {
                Some(version) => Written::NotHeld(format!("it demands nothing but min-version {version}")),
                None => Written::Nothing,
            };
        }
    };
    let mut held = Held { value: String::new(), issuers: Vec::new(), without: *min_version };
    let mut extensions = Vec::new();
    for name in certificate {
        match extension(name, &mut held, tag) {
            Ok(extension) => extensions.push(extension),
            Err(why) => return Written::NotHeld(why),
        }
    }
    let prefix_text = match prefix {
        Prefix::Temp => "TEMP+",
        Prefix::Perm => "PERM+",
        Prefix::Bare => "",
    };
    held.value = format!("{prefix_text}{demand}");
    for (position, demand) in extensions.iter().enumerate() {
        held.value.push_str(if position == 0 { "+" } else { "++" });
        held.value.push_str(&spelt(demand));
    }
    // The proof: sendmail reads back what was meant.
    match rhs::parse(&held.value) {
        Value::Demand(read)
            if read.prefix == prefix
                && read.verify == *verify
                && read.bits.as_ref().map(|bits| bits.number)
                    == min_bits.map(i64::from).or((!*verify).then_some(0))
                && read.ignored.is_none()
                && read.extensions.iter().map(|extension| &extension.demand).eq(&extensions) =>
        {
            Written::Held(held)
        }
        _ => Written::NotHeld("sendmail would read its right-hand side differently".to_owned()),
    }
}

/// A demand on a name as sendmail's extension, or why it has none.
fn extension(
    name: &CertificateName,
    held: &mut Held,
    tag: &mut impl FnMut() -> String,
) -> Result<ExtensionDemand, String> {
    let field = name.attribute.field();
    match (&name.wanted, name.attribute) {
        (Wanted::OfPeer, Attribute::CommonName) => Ok(ExtensionDemand::CnOfPeer),
        (Wanted::OfPeer, _) => Err(format!("it demands the other side's name of {field}")),
        (Wanted::Is(text), attribute) => Ok(ExtensionDemand::Name(attribute, matchable(text, field)?)),
        (Wanted::OneOf(names), Attribute::Issuer) => {
            let mut below: Vec<String> = Vec::new();
            for name in names {
                let name = matchable(name, field)?;
                // makemap takes a key once, in whatever case.
                if !below.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
                    below.push(name);
                }
            }
            let tag = tag();
            held.issuers.push((tag.clone(), below));
            Ok(ExtensionDemand::IssuerTag(tag))
        }
        (Wanted::OneOf(_), _) => Err(format!("{field} is one of several, and only issuers may be that")),
    }
}

fn spelt(demand: &ExtensionDemand) -> Cow<'_, str> {
    match demand {
        ExtensionDemand::CnOfPeer => Cow::Borrowed(Attribute::CommonName.extension()),
        ExtensionDemand::Name(attribute, name) => Cow::Owned(format!("{}:{name}", attribute.extension())),
        ExtensionDemand::IssuerTag(tag) => Cow::Owned(format!("CITag:{tag}")),
    }
}

/// A name as sendmail's macros say it, if they can.
fn matchable(name: &str, field: &str) -> Result<String, String> {
    let name = whole_xtext(&encode_xtext(name));
    if !rhs::can_match(&name) {
        return Err(format!("no macro of sendmail's can say {field} {name:?}"));
    }
    Ok(name)
}

/// A `+` that begins no `+XX` is one that was not encoded: the macro says `+2B`, and two of them would begin
/// another extension.
fn whole_xtext(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        out.push(c);
        let begins =
            name.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        if c == '+' && !begins {
            out.push_str("2B");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(attribute: Attribute, name: &str) -> CertificateName {
        CertificateName { attribute, wanted: Wanted::Is(name.into()) }
    }

    fn shown(requirement: &Requirement) -> String {
        let mut count = 0;
        let mut tag = || {
            count += 1;
            format!("Tag{count}")
        };
        match write(Prefix::Perm, requirement, &mut tag) {
            Written::Held(held) => {
                let without = held.without.map_or(String::new(), |version| format!(" without {version}"));
                format!("{}{without}", held.value)
            }
            Written::Nothing => "nothing".into(),
            Written::NotHeld(why) => why,
        }
    }

    #[test]
    fn a_requirement_is_written_as_sendmail_reads_it() {
        let bits = Requirement { min_bits: Some(168), ..Requirement::default() };
        assert_eq!(shown(&bits), "PERM+ENCR:168");
        let verify = Requirement { verify: true, ..Requirement::default() };
        assert_eq!(shown(&verify), "PERM+VERIFY");
        let both = Requirement { verify: true, ..bits.clone() };
        assert_eq!(shown(&both), "PERM+VERIFY:168");
        let version = Requirement { min_version: TlsVersion::from_policy("TLSv1.2"), ..bits };
        assert_eq!(shown(&version), "PERM+ENCR:168 without TLSv1.2");
        let alone = Requirement { min_version: version.min_version, ..Requirement::default() };
        assert_eq!(shown(&alone), "it demands nothing but min-version TLSv1.2");
        assert_eq!(shown(&Requirement { handshake: true, ..Requirement::default() }), "nothing");
    }

    #[test]
    fn names_are_extensions_in_their_order() {
        let of_peer = CertificateName { attribute: Attribute::CommonName, wanted: Wanted::OfPeer };
        let names = Requirement {
            certificate: vec![
                is(Attribute::Issuer, "/O=Rig CA"),
                of_peer,
                is(Attribute::Subject, "/CN=a+b++"),
            ],
            ..Requirement::default()
        };
        assert_eq!(shown(&names), "PERM+ENCR:0+CI:/O=Rig+20CA++CN++CS:/CN=a+2Bb+2B+2B");
        let encoded = Requirement {
            verify: true,
            certificate: vec![is(Attribute::Issuer, "/O=Rig+20CA")],
            ..Requirement::default()
        };
        assert_eq!(shown(&encoded), "PERM+VERIFY+CI:/O=Rig+20CA");
        let subject = |name: &str| Requirement {
            certificate: vec![is(Attribute::Subject, name)],
            ..Requirement::default()
        };
        assert_eq!(shown(&subject("a(b) \\\"")), "PERM+ENCR:0+CS:a+28b+29+20+5C+22");
        assert_eq!(shown(&subject("")), "no macro of sendmail's can say cert-subject \"\"");
    }

    #[test]
    fn issuers_may_be_one_of_several_and_nothing_else_may() {
        let one_of = |attribute| Requirement {
            certificate: vec![CertificateName {
                attribute,
                wanted: Wanted::OneOf(vec!["/O=One".into(), "/o=one".into(), "/O=Two CA".into()]),
            }],
            ..Requirement::default()
        };
        let Written::Held(held) = write(Prefix::Temp, &one_of(Attribute::Issuer), &mut || "T".into()) else {
            panic!("not held");
        };
        assert_eq!(held.value, "TEMP+ENCR:0+CITag:T");
        assert_eq!(held.issuers, [("T".into(), vec!["/O=One".into(), "/O=Two+20CA".into()])]);
        assert_eq!(
            shown(&one_of(Attribute::CommonName)),
            "cn is one of several, and only issuers may be that"
        );
    }
}
