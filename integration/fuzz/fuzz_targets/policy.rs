//! A policy's text, a list beside it, and another policy (`%%%%` on a line of its own stands between the three).
//!
//! Whatever it is: it is loaded or told of, with places that are there; it means the same twice; a comment changes
//! nothing; two policies differ in words exactly where their fingerprints do; and every decision by it keeps the
//! promises, at the length that a contact, a name and a reason may have.
#![no_main]

use encr_milter::milter::macros;
use encr_milter::policy::Policy;
use encr_milter::policy::decide::{Envelope, decide};
use encr_milter::policy::facts::{Facts, Told};
use encr_milter::policy::record::Record;
use encr_milter::policy_file::diff::diff;
use encr_milter::policy_file::load::Loaded;
use encr_milter_fuzz::files::{Memory, split};
use encr_milter_fuzz::{TODAY, check, memory, now};
use libfuzzer_sys::fuzz_target;

const CLIENTS: &[&[u8]] = &[
    b"",
    b"{client_addr}\x00192.0.2.7\0{client_name}\0mx.partner.example\0{client_resolve}\0OK\0",
    b"{client_addr}\x00192.0.2.7\0{client_name}\0[192.0.2.7]\0{client_resolve}\0FAIL\0{auth_type}\0PLAIN\0{auth_ssf}\x00112\0",
    b"i\x006AM1\0j\0rig\0{client_addr}\x002001:db8::25\0{tls_version}\0TLSv1.2\0{cipher}\0AES128\0{cipher_bits}\x00128\0{verify}\0OK\0{cn_subject}\0x\0{cert_issuer}\0/CN=Rig+20CA\0",
    b"{client_addr}\x00203.0.113.9\0{tls_version}\0TLSv1\0{cipher_bits}\0many\0{verify}\0SOFTWARE\0",
];

const ENVELOPES: &[(Option<&str>, Option<&str>)] = &[
    (None, None),
    (Some("<>"), Some("<postmaster>")),
    (Some("<anna@partner.example>"), None),
    (Some("anna@partner.example"), Some("joe+x@sub.partner.example")),
    (Some("\"a b\"@[192.0.2.7]"), Some("bob@b\u{fc}cher.example")),
];

fn judge(policy: &Policy, facts: &Facts<'_>) {
    let waited = [None, Some(0), Some(u32::MAX)].into_iter().cycle();
    for ((sender, recipient), waited) in ENVELOPES.iter().zip(waited) {
        let envelope = Envelope { sender: *sender, recipient: *recipient, waited };
        let decision = decide(policy, facts, envelope, TODAY);
        check::decision(&decision);
        check::record(&Record::new(now(), facts, envelope, &decision, policy.fingerprint()), policy);
    }
}

fuzz_target!(|input: &[u8]| {
    let files = split(input);
    let file = |at: usize| files.get(at).copied().unwrap_or_default();
    let Loaded { policy, diagnostics, sources, .. } =
        memory::bounded(input.len(), 2_000, || Memory::new(file(0), file(1)).load());
    check::diagnostics(&diagnostics, &sources);
    assert_eq!(policy.is_none(), diagnostics.has_errors());
    let Some(policy) = policy else { return };

    let again = Memory::new(file(0), file(1)).load().policy.expect("it was sound before");
    assert_eq!(again.fingerprint(), policy.fingerprint());
    assert!(diff(&policy, &again).is_empty());
    let remark = [file(0), b"\n# a remark\n"].concat();
    let remarked = Memory::new(&remark, file(1)).load().policy.expect("a remark at the end is no fault");
    assert_eq!(remarked.fingerprint(), policy.fingerprint());

    if let Some(other) = Memory::new(file(2), file(1)).load().policy {
        let (there, back) = (diff(&policy, &other), diff(&other, &policy));
        let same = policy.fingerprint() == other.fingerprint();
        assert_eq!(there.is_empty(), same, "{there:?}");
        assert_eq!(back.is_empty(), same, "{back:?}");
    }

    for payload in CLIENTS {
        judge(&policy, &Facts::inbound(&macros::told(payload)));
    }
    let clear =
        Told { peer_name: Some(b"mx.partner.example"), peer_addr: Some(b"192.0.2.7"), ..Told::default() };
    let named = Told {
        cipher_bits: Some(b"128"),
        tls_version: Some(b"TLSv1.2"),
        verify: Some(b"FAIL"),
        ..clear.clone()
    };
    for told in [clear, named] {
        judge(&policy, &Facts::outbound(&told));
    }
});
