//! What MTAs mean by what they tell, where it is not what sendmail means: the one place that knows them apart.
//!
//! Promises: a macro is read as the MTA that sent it means it, and what that MTA does not tell stays untold. An MTA
//! that is not known here is read as sendmail is. Where a fact tells, no name is asked for: Postfix has another
//! word for a client without a name, whoever says it. What no fact tells is taken from `v`, the MTA's own word for
//! what it is.
//!
//! Seen of Postfix 3.7 (integration/postfix.rs holds it to that): `{client_resolve}` is told by its SMTP server always,
//! and by cleanup(8) never. `{cert_subject}` and `{cert_issuer}` are common names, told only of a certificate
//! that it has verified; there is no `{verify}` and no `{cn_subject}`. The queue id is not there yet at MAIL.

use crate::policy::facts::{Facts, TlsState, Told, UNVERIFIED};
use std::borrow::Cow;

/// Makes facts of what was told at MAIL. None where the message came by no SMTP session, and nothing is to be judged.
pub fn facts<'a>(told: &Told<'a>) -> Option<Facts<'a>> {
    let is_postfix = told.mta.is_some_and(is_postfix);
    // cleanup(8) acts a session for mail of this host (`non_smtpd_milters`). It cannot refuse a recipient there: the
    // message would be tried again for ever.
    if is_postfix && told.peer_addr.is_some() && told.peer_resolve.is_none() {
        return None;
    }
    let mut facts = Facts::inbound(told);
    nameless(&mut facts);
    if is_postfix {
        certificate(&mut facts);
    }
    Some(facts)
}

/// `Postfix 3.7.11`. sendmail's is `8.17.1.9`.
fn is_postfix(mta: &[u8]) -> bool {
    mta.split(|byte| *byte == b' ').next() == Some(b"Postfix".as_slice())
}

/// A client without a confirmed name is `unknown` to Postfix and `[address]` to sendmail. A host that is really
/// called so has a name that was confirmed.
fn nameless(facts: &mut Facts<'_>) {
    if facts.peer_name.as_deref() == Some("unknown") && facts.confirmed_name().is_none() {
        facts.peer_name = facts.peer_addr.as_deref().map(|address| Cow::Owned(format!("[{address}]")));
    }
}

fn certificate(facts: &mut Facts<'_>) {
    let tls = &mut facts.tls;
    if tls.state != TlsState::Tls || tls.verify.is_some() {
        return;
    }
    // No distinguished names, though macros of that name came: a rule on those cannot be answered. Where none came,
    // nobody says whether a certificate was asked for, was sent, or was not trusted.
    let (subject, _) = (tls.cert_subject.take(), tls.cert_issuer.take());
    tls.verify = Some(Cow::Borrowed(if subject.is_some() { "OK" } else { UNVERIFIED }));
    tls.cn_subject = tls.cn_subject.take().or(subject);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told<'static> {
        Told {
            mta: Some(b"Postfix 3.7.11"),
            peer_addr: Some(b"192.0.2.7"),
            peer_name: Some(b"mx.partner.example"),
            peer_resolve: Some(b"OK"),
            ..Told::default()
        }
    }

    fn tls() -> Told<'static> {
        Told {
            tls_version: Some(b"TLSv1.3"),
            cipher: Some(b"TLS_AES_256_GCM_SHA384"),
            cipher_bits: Some(b"256"),
            ..told()
        }
    }

    fn of<'a>(told: &Told<'a>) -> Facts<'a> {
        facts(told).expect("a session")
    }

    fn verify<'a>(facts: &'a Facts<'_>) -> Option<&'a str> {
        facts.tls.verify.as_deref()
    }

    #[test]
    fn a_verified_certificate_of_postfix_is_known_by_its_common_name_alone() {
        let told = Told { cert_subject: Some(b"mx.partner.example"), cert_issuer: Some(b"Rig CA"), ..tls() };
        let facts = of(&told);
        assert_eq!(verify(&facts), Some("OK"));
        assert_eq!(facts.tls.cn_subject.as_deref(), Some("mx.partner.example"));
        assert_eq!((facts.tls.cert_subject, facts.tls.cert_issuer), (None, None));
        // One without a common name is verified as well.
        let facts = of(&Told { cert_subject: Some(b""), ..tls() });
        assert_eq!((verify(&facts), facts.tls.cn_subject.as_deref()), (Some("OK"), Some("")));
    }

    #[test]
    fn a_session_without_one_is_not_verified_and_its_names_are_not_known() {
        let told = tls();
        let facts = of(&told);
        assert_eq!(verify(&facts), Some("UNVERIFIED"));
        assert!(!facts.tls.no_certificate(), "one may have come that Postfix did not trust");
        assert_eq!(facts.tls.cn_subject, None);
    }

    #[test]
    fn in_the_clear_and_not_told_stay_what_they_are() {
        let facts = of(&told());
        assert_eq!((facts.tls.state, verify(&facts)), (TlsState::Plaintext, None));
        let nothing = Told { mta: Some(b"Postfix 3.7.11"), ..Told::default() };
        let facts = of(&nothing);
        assert_eq!((facts.tls.state, verify(&facts)), (TlsState::NotTold, None));
    }

    #[test]
    fn a_client_without_a_name_is_its_address_in_brackets() {
        for (resolve, address, name) in [
            (b"FAIL".as_slice(), b"192.0.2.7".as_slice(), "[192.0.2.7]"),
            (b"TEMP", b"IPv6:2001:db8::7", "[IPv6:2001:db8::7]"),
            (b"FORGED", b"192.0.2.7", "[192.0.2.7]"),
        ] {
            let told = Told {
                peer_name: Some(b"unknown"),
                peer_resolve: Some(resolve),
                peer_addr: Some(address),
                ..told()
            };
            for told in [Told { mta: None, ..told }, told] {
                let facts = of(&told);
                assert_eq!(facts.peer_name.as_deref(), Some(name));
                assert_eq!(facts.confirmed_name(), None);
            }
        }
        // Unless that is its name.
        let named = Told { peer_name: Some(b"unknown"), ..told() };
        assert_eq!(of(&named).confirmed_name(), Some("unknown"));
    }

    #[test]
    fn mail_that_came_by_no_session_is_not_judged() {
        let local = Told {
            peer_name: Some(b"localhost"),
            peer_addr: Some(b"127.0.0.1"),
            peer_resolve: None,
            queue_id: Some(b"9F7A2525"),
            ..told()
        };
        assert_eq!(facts(&local), None);
        // Of another MTA that does not tell whether the name is confirmed, the session is judged.
        for mta in [None, Some(b"8.17.1.9".as_slice()), Some(b"Postfixed 1"), Some(b"")] {
            assert!(facts(&Told { mta, ..local }).is_some());
        }
    }

    #[test]
    fn sendmails_words_are_left_alone() {
        let told = Told {
            mta: Some(b"8.17.1.9/Debian-2+deb12u2"),
            verify: Some(b"NOT"),
            cn_subject: Some(b""),
            cert_subject: Some(b""),
            cert_issuer: Some(b""),
            ..tls()
        };
        assert_eq!(facts(&told), Some(Facts::inbound(&told)));
        // And so are an unknown MTA's, which told less.
        let told = Told { mta: None, cert_subject: Some(b"/CN=mx.partner.example"), ..tls() };
        assert_eq!(facts(&told), Some(Facts::inbound(&told)));
    }
}
