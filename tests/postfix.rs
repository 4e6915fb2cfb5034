//! Postfix's side of the milter protocol, as it was seen to speak it (integration/postfix.rs has the real one).
//!
//! Promises: its sessions are judged as sendmail's are; what it does not tell is not held against anyone; mail that
//! came by no session is let through.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::in_process::{Milter, brief};
use support::mta::{Mta, macros};

const ENFORCE: &str = "[exempt]\nnetworks = []\n\
                       [[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";

/// What its SMTP server tells at MAIL of those that we ask for.
fn smtpd<'a>(name: &'a str, resolve: &'a str, address: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("j", "mail.rig.example"),
        ("{client_addr}", address),
        ("{client_name}", name),
        ("{client_resolve}", resolve),
        ("v", "Postfix 3.7.11"),
    ]
}

fn tls<'a>(bits: &'a str, certificate: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = smtpd("mx.partner.example", "OK", "192.0.2.7");
    pairs.extend([
        ("{tls_version}", "TLSv1.3"),
        ("{cipher}", "TLS_AES_256_GCM_SHA384"),
        ("{cipher_bits}", bits),
    ]);
    pairs.extend(certificate);
    pairs
}

/// It sends these with each HELO, though we asked for none there, and stages that we do not want come without a frame.
fn helo(mta: &mut Mta) {
    mta.frame('D', &macros('H', &[("{tls_version}", "TLSv1.3"), ("{cipher_bits}", "256")]));
}

#[test]
fn a_session_as_postfix_has_it() {
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.negotiated();
    mta.frame('D', &macros('C', &smtpd("mx.partner.example", "OK", "192.0.2.7")));
    helo(&mut mta);
    // In the clear, whatever was told with HELO.
    mta.macros(&smtpd("mx.partner.example", "OK", "192.0.2.7"));
    assert_eq!(mta.mail("<a@x>"), "continue");
    mta.frame('D', &macros('R', &[("{rcpt_addr}", "r@y")]));
    assert_eq!(mta.rcpt("<r@y>"), REFUSED);
    // The queue id comes with the second recipient, if the first was taken, and goes with it.
    mta.frame('D', &macros('R', &[("i", "DA96C51F"), ("{rcpt_addr}", "postmaster")]));
    assert_eq!(mta.rcpt("<postmaster>"), "continue");
    assert_eq!(mta.rcpt("<s@y>"), REFUSED);
    mta.frame('D', &macros('T', &[("i", "DA96C51F")]));
    mta.frame('D', &macros('E', &[("i", "DA96C51F")]));
    assert_eq!(mta.end_of_message(), "accept");
    mta.frame('A', b"");
    // STARTTLS: an abort, and then another EHLO.
    mta.frame('A', b"");
    helo(&mut mta);
    mta.macros(&tls("256", &[]));
    assert_eq!(mta.mail("<b@x>"), "accept");
    mta.frame('A', b"");
    mta.frame('A', b"");
    mta.quit();
    let records = milter.take_records();
    let briefs: Vec<_> = records.iter().map(brief).collect();
    assert_eq!(
        briefs,
        [
            "fail | reject | all | r@y | encryption too weak 0 less than 128",
            "exempt | accept | - | postmaster | recipient postmaster",
            "fail | reject | all | s@y | encryption too weak 0 less than 128",
            "pass | accept | all | - | -",
        ]
    );
    let ids: Vec<_> = records.iter().map(|record| record.get("queue_id").cloned()).collect();
    assert_eq!(ids, [None, Some("DA96C51F".into()), None, None]);
}

#[test]
fn a_client_without_a_name_is_told_as_sendmail_tells_it() {
    let milter =
        Milter::start("[[rule]]\nname = \"n\"\nclient = [\"[192.0.2.0/24]\"]\nenforce = { min-bits = 1 }\n");
    let mut mta = milter.negotiated();
    for resolve in ["FAIL", "FORGED", "TEMP"] {
        mta.macros(&smtpd("unknown", resolve, "192.0.2.7"));
        assert_eq!(mta.mail("<a@x>"), "continue", "{resolve}");
        mta.frame('A', b"");
        let record = &milter.wait_records(1)[0];
        assert_eq!(record["client_name"], "[192.0.2.7]");
        assert_eq!(record["client_resolve"], resolve);
        assert_eq!(record["key"], "[192.0.2.0/24]");
    }
    // By IPv6 the address has its tag.
    mta.macros(&smtpd("unknown", "FAIL", "IPv6:2001:db8::7"));
    assert_eq!(mta.mail("<a@x>"), "accept");
    let record = &milter.wait_records(1)[0];
    assert_eq!(record["client_addr"], "2001:db8::7");
    assert_eq!(record["client_name"], "[IPv6:2001:db8::7]");
}

#[test]
fn certificates_are_held_against_what_postfix_tells_of_them() {
    let rule = |demand: &str| format!("[[rule]]\nname = \"c\"\nclient = [\"*\"]\nenforce = {{ {demand} }}\n");
    let verified = [("{cert_subject}", "mx.partner.example"), ("{cert_issuer}", "Rig CA")];
    let other = [("{cert_subject}", "mx.other.example"), ("{cert_issuer}", "Rig CA")];
    let none: [(&str, &str); 0] = [];
    for (demand, certificate, expected) in [
        ("verify = true", &verified[..], "pass | accept | c | - | -"),
        ("verify = true", &none, "fail | reject | c | - | not authenticated"),
        ("cn = \"mx.partner.example\"", &verified, "pass | accept | c | - | -"),
        ("cn = true", &verified, "pass | accept | c | - | -"),
        (
            "cn = true",
            &other,
            "fail | reject | c | - | CN mx.other.example does not match mx.partner.example",
        ),
        // One may have come that was not trusted: sendmail would have told its name.
        (
            "cn = \"mx.partner.example\"",
            &none,
            "unknown | accept | c | - | not told by the MTA: {cn_subject}",
        ),
        // Distinguished names are not told, and a common name is none.
        (
            "cert-issuer = \"/O=Rig Trust/CN=Rig CA\"",
            &verified,
            "unknown | accept | c | - | not told by the MTA: {cert_issuer}",
        ),
        (
            "cert-subject = \"/CN=mx.partner.example\"",
            &verified,
            "unknown | accept | c | - | not told by the MTA: {cert_subject}",
        ),
    ] {
        let milter = Milter::start(&rule(demand));
        let mut mta = milter.negotiated();
        mta.macros(&tls("256", certificate));
        let answer = mta.mail("<a@x>");
        assert_eq!(answer == "continue", expected.contains("reject"), "{demand}: {answer}");
        mta.quit();
        let records = milter.take_records();
        assert_eq!(records.iter().map(brief).collect::<Vec<_>>(), [expected], "{demand}");
    }
}

#[test]
fn mail_of_the_host_itself_is_let_through_and_leaves_no_record() {
    // cleanup(8), for `non_smtpd_milters`: to refuse a recipient there is to stop the message for ever.
    let milter = Milter::start(ENFORCE);
    let mut mta = milter.negotiated();
    mta.macros(&[
        ("i", "9F7A2525"),
        ("j", "mail.rig.example"),
        ("v", "Postfix 3.7.11"),
        ("{client_addr}", "127.0.0.1"),
        ("{client_name}", "localhost"),
    ]);
    assert_eq!(mta.mail("a@x"), "accept");
    mta.quit();
    assert!(milter.take_records().is_empty());
}
