//! Requirements held against facts, in sendmail's order and words; versions and names.

use super::*;
use std::borrow::Cow;

fn tls(bits: u16) -> Facts<'static> {
    let mut facts = Facts::default();
    facts.tls.state = TlsState::Tls;
    facts.tls.version = Some(Cow::Borrowed("TLSv1.2"));
    facts.tls.cipher_bits = Some(bits);
    facts.tls.verify = Some(Cow::Borrowed("NO"));
    facts
}

fn plain() -> Facts<'static> {
    let mut facts = Facts::default();
    facts.tls.state = TlsState::Plaintext;
    facts
}

/// An [`super::Outcome`] in words.
#[derive(Debug, PartialEq)]
enum Outcome {
    Met,
    Failed(String),
    NotTold(&'static str),
}

fn check(need: &Requirement, facts: &Facts<'_>) -> Outcome {
    match need.check(facts) {
        super::Outcome::Met => Outcome::Met,
        super::Outcome::Failed(unmet) => {
            assert_eq!(unmet.words(), unmet.to_string());
            Outcome::Failed(unmet.to_string())
        }
        super::Outcome::NotTold(what) => Outcome::NotTold(what),
    }
}

fn failed(text: &str) -> Outcome {
    Outcome::Failed(text.to_owned())
}

#[test]
fn bits_are_the_greater_of_cipher_and_ssf() {
    let need = Requirement { min_bits: Some(168), ..Requirement::default() };
    assert_eq!(check(&need, &tls(256)), Outcome::Met);
    assert_eq!(check(&need, &tls(128)), failed("encryption too weak 128 less than 168"));
    assert_eq!(check(&need, &plain()), failed("encryption too weak 0 less than 168"));
    let mut facts = plain();
    facts.auth_ssf = Some(168);
    assert_eq!(check(&need, &facts), Outcome::Met);
    facts.auth_ssf = Some(56);
    assert_eq!(check(&need, &facts), failed("encryption too weak 56 less than 168"));
}

#[test]
fn what_was_not_told_is_not_held_against_anyone() {
    let need = Requirement { min_bits: Some(1), verify: true, ..Requirement::default() };
    assert_eq!(check(&need, &Facts::default()), Outcome::NotTold("{verify}"));
    let mut facts = tls(1);
    facts.tls.cipher_bits = None;
    assert_eq!(check(&need, &facts), failed("not authenticated"));
    facts.tls.verify = Some(Cow::Borrowed("OK"));
    assert_eq!(check(&need, &facts), Outcome::NotTold("{cipher_bits}"));
}

#[test]
fn verification_speaks_sendmails_words() {
    let need = Requirement { verify: true, ..Requirement::default() };
    for (verify, expected) in [
        ("OK", Outcome::Met),
        ("TRUSTED", Outcome::Met),
        ("FAIL", failed("authentication failed")),
        ("NO", failed("not authenticated")),
        ("NOT", failed("no authentication requested")),
        ("NONE", failed("other side does not support STARTTLS")),
        ("CLEAR", failed("STARTTLS disabled locally")),
        ("TEMP", failed("authentication failure")),
        ("not", failed("no authentication requested")),
    ] {
        let mut facts = tls(256);
        facts.tls.verify = Some(Cow::Borrowed(verify));
        assert_eq!(check(&need, &facts), expected, "{verify}");
    }
    assert_eq!(check(&need, &plain()), failed("authentication required"));
    // Where it means to repeat the word, sendmail repeats the extensions.
    let cn = CertificateName { attribute: Attribute::CommonName, wanted: Wanted::OfPeer };
    let need = Requirement { certificate: vec![cn], ..need };
    let mut facts = tls(256);
    facts.tls.verify = Some(Cow::Borrowed("TEMP"));
    assert_eq!(check(&need, &facts), failed("authentication failure CN"));
}

#[test]
fn a_failed_handshake_fails_every_requirement() {
    let mut facts = tls(256);
    facts.tls.verify = Some(Cow::Borrowed("SOFTWARE"));
    let need = Requirement { min_bits: Some(0), ..Requirement::default() };
    assert_eq!(check(&need, &facts), failed("TLS handshake failed."));
}

#[test]
fn versions_are_ordered() {
    let need = Requirement { min_version: TlsVersion::from_policy("TLSv1.2"), ..Requirement::default() };
    for (version, met) in
        [("SSLv3", false), ("TLSv1", false), ("TLSv1.1", false), ("TLSv1.2", true), ("TLSv1.4", true)]
    {
        let mut facts = tls(128);
        facts.tls.version = Some(Cow::Borrowed(version));
        assert_eq!(check(&need, &facts) == Outcome::Met, met, "{version}");
    }
    let mut facts = tls(128);
    facts.tls.version = Some(Cow::Borrowed("QUIC"));
    assert_eq!(check(&need, &facts), Outcome::NotTold("{tls_version}"));
    assert_eq!(check(&need, &plain()), failed("TLS version too old none less than TLSv1.2"));
    assert_eq!(TlsVersion::from_mta("TLSv1.+2"), None);
}

#[test]
fn names_of_certificates_match_in_xtext_and_in_any_case() {
    let need = Requirement {
        certificate: vec![
            CertificateName { attribute: Attribute::Issuer, wanted: Wanted::Is("/O=Rig/CN=Rig CA".into()) },
            CertificateName {
                attribute: Attribute::CommonName,
                wanted: Wanted::Is("mx.partner.example".into()),
            },
        ],
        ..Requirement::default()
    };
    let mut facts = tls(256);
    facts.tls.cn_subject = Some(Cow::Borrowed("MX.partner.example"));
    facts.tls.cert_issuer = Some(Cow::Borrowed("/O=Rig/CN=Rig+20CA"));
    facts.tls.verify = Some(Cow::Borrowed("OK"));
    assert_eq!(check(&need, &facts), Outcome::Met);
    facts.tls.cn_subject = Some(Cow::Borrowed("other"));
    assert_eq!(check(&need, &facts), failed("CN other does not match mx.partner.example"));
    facts.tls.cn_subject = None;
    assert_eq!(check(&need, &facts), Outcome::NotTold("{cn_subject}"));
    facts.tls.verify = Some(Cow::Borrowed("NO"));
    assert_eq!(check(&need, &facts), failed("CN  does not match mx.partner.example"));
}

#[test]
fn a_requirement_implies_a_weaker_one() {
    let weak = Requirement { min_bits: Some(128), ..Requirement::default() };
    let strong = Requirement { min_bits: Some(256), verify: true, ..Requirement::default() };
    assert!(strong.implies(&weak) && !weak.implies(&strong) && weak.implies(&weak));
}

#[test]
fn a_choice_of_names_is_met_by_one_of_them_and_none_by_nothing() {
    let one_of = |names: &[&str]| Requirement {
        certificate: vec![CertificateName {
            attribute: Attribute::Issuer,
            wanted: Wanted::OneOf(names.iter().map(|&name| name.to_owned()).collect()),
        }],
        ..Requirement::default()
    };
    let mut facts = tls(256);
    facts.tls.cert_issuer = Some(Cow::Borrowed("/O=Rig+20CA"));
    assert_eq!(check(&one_of(&["/O=Other", "/o=rig ca"]), &facts), Outcome::Met);
    assert_eq!(check(&one_of(&[]), &facts), failed("Cert Issuer /O=Rig+20CA not acceptable"));
}

#[test]
fn names_go_into_xtext_once() {
    for (plain, encoded) in [
        ("/O=Rig CA", "/O=Rig+20CA"),
        ("/O=Rig+20CA", "/O=Rig+20CA"),
        ("a+b", "a+b"),
        ("a + (b)", "a+20+2B+20+28b+29"),
        ("\u{e9}", "+C3+A9"),
    ] {
        assert_eq!(encode_xtext(plain), encoded);
    }
}
