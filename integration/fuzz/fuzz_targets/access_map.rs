//! sendmail's access map: linted and imported whatever it is; what is imported is a sound policy; and what of that goes
//! back into a map is found again, replaces itself, leaves every other byte alone, and refuses whom the policy refuses.
#![no_main]

use encr_milter::diagnostics::{Diagnostics, FileId, Sources};
use encr_milter::policy::Policy;
use encr_milter::policy::decide::{Disposition, Envelope, decide};
use encr_milter::policy::facts::{Facts, Told};
use encr_milter::policy::rule::Mode;
use encr_milter::sendmail::block;
use encr_milter::sendmail::export::export;
use encr_milter::sendmail::import::{Imported, Options, import};
use encr_milter::sendmail::lint::lint;
use encr_milter_fuzz::files::load_text;
use encr_milter_fuzz::{TODAY, check, memory};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

/// Hosts that a seed's keys are about, and some that none is.
const NAMES: &[&[u8]] = &[b"", b"mx.partner.example", b"a"];
const ADDRESSES: &[&[u8]] = &[b"192.0.2.7", b"198.51.100.1", b"2001:db8::25"];
const SESSIONS: &[(&[u8], &[u8])] = &[(b"", b""), (b"112", b"FAIL"), (b"256", b"OK")];
const RECIPIENTS: &[Option<&str>] = &[None, Some("joe@partner.example"), Some("joe+x@other.example")];

fn imported(text: &str, options: Options) -> (Imported<'_>, Policy) {
    let mut sources = Sources::default();
    let file = sources.add("access".into(), text.into());
    let mut told = Diagnostics::up_to(10_000);
    let (imported, written) = memory::bounded(text.len(), 4_000, || {
        let imported = import(text, file, "access", options, &mut told);
        let mut written = Vec::new();
        imported.write(&mut written).expect("memory");
        (imported, String::from_utf8(written).expect("of text comes text"))
    });
    check::diagnostics(&told, &sources);
    assert!(imported.taken <= imported.rules);
    let loaded = load_text(&written);
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    let policy = loaded.policy.unwrap_or_else(|| panic!("{shown}\n{written}"));
    (imported, policy)
}

/// Who is refused for good, of everybody: the keys of one map.
fn refused(policy: &Policy) -> Vec<bool> {
    let mut refused = Vec::new();
    for name in NAMES {
        for address in ADDRESSES {
            for (bits, verify) in SESSIONS {
                let resolve: &[u8] = if name.is_empty() { b"FAIL" } else { b"OK" };
                let some = |value: &'static [u8]| (!value.is_empty()).then_some(value);
                let told = Told {
                    peer_name: some(name),
                    peer_addr: Some(address),
                    peer_resolve: Some(resolve),
                    cipher_bits: some(bits),
                    tls_version: some(bits).map(|_| b"TLSv1.2".as_slice()),
                    verify: some(verify),
                    ..Told::default()
                };
                for (facts, recipients) in
                    [(Facts::inbound(&told), &RECIPIENTS[..1]), (Facts::outbound(&told), RECIPIENTS)]
                {
                    for recipient in recipients {
                        let envelope = Envelope { recipient: *recipient, ..Envelope::default() };
                        let decision = decide(policy, &facts, envelope, TODAY);
                        check::decision(&decision);
                        refused.push(decision.disposition == Disposition::Reject);
                    }
                }
            }
        }
    }
    refused
}

fn back(text: &str, policy: &Policy, exact: bool) {
    let Ok(taken) = block::tags_outside(text.as_bytes()) else { return };
    for mode in [Mode::Enforce, Mode::SoftFail] {
        let made = export(policy, TODAY, mode, &taken);
        check::diagnostics(&made.diagnostics, &Sources::default());
        let block = made.block();
        let whole = block::replace(text.as_bytes(), &block).expect("its markers were sound");
        let at = block::find(&whole).expect("a block that was put there is sound").expect("it is there");
        // Every byte around it is as it was.
        let old = block::find(text.as_bytes()).expect("its markers were sound");
        let (before, after) = old.map_or((text, ""), |old| (&text[..old.start], &text[old.end..]));
        assert!(whole[..at.start].starts_with(before.as_bytes()) && whole[at.end..] == *after.as_bytes());
        let gap = &whole[before.len()..at.start];
        assert!(gap.is_empty() || gap == b"\n" || gap == b"\r\n");
        assert_eq!(block::replace(&whole, &block).expect("sound"), whole, "a second time changes nothing");

        if mode == Mode::Enforce
            && exact
            && !made.diagnostics.has_errors()
            && made.diagnostics.warnings() == 0
        {
            let alone = export(policy, TODAY, mode, &BTreeSet::new()).block();
            let (imported, again) = imported(&alone, Options::default());
            if !imported.inexact {
                assert_eq!(refused(policy), refused(&again), "{text}\n--- became\n{alone}");
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut sources = Sources::default();
    let file: FileId = sources.add("access".into(), text.as_ref().into());
    let findings = memory::bounded(text.len(), 4_000, || lint(&text, file));
    check::diagnostics(&findings.diagnostics, &sources);

    for options in [
        Options::default(),
        Options { tls_perm_err: true, ..Options::default() },
        Options { no_skip: true, mode: Some(Mode::Observe), ..Options::default() },
    ] {
        let (imported, policy) = imported(&text, options);
        assert!(options.mode != Some(Mode::Observe) || refused(&policy).iter().all(|refused| !refused));
        back(&text, &policy, !imported.inexact);
    }
});
