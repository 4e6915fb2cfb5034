//! The codes that a text gives, fault by fault, and that a sound map gives none.

use super::*;
use crate::diagnostics::{Severity, Sources};
use std::sync::Arc;

/// Each diagnostic as `line:column code`, errors with a `!`.
fn codes(text: &str) -> Vec<String> {
    let mut sources = Sources::default();
    let text: Arc<str> = text.into();
    let file = sources.add("access".into(), Arc::clone(&text));
    let found = lint(&text, file);
    let shown = |diagnostic: &Diagnostic| {
        let at = diagnostic.place.as_ref().unwrap().span.start;
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let mark = if diagnostic.severity == Severity::Error { "!" } else { "" };
        assert!(diagnostic.hint.is_some(), "{}: no hint", diagnostic.code);
        format!("{line}:{column} {}{mark}", diagnostic.code)
    };
    found.diagnostics.iter().map(shown).collect()
}

/// The hint of the only diagnostic of a text.
fn hint(text: &str) -> String {
    let file = Sources::default().add("access".into(), text.into());
    let found = lint(text, file);
    let hints: Vec<_> = found.diagnostics.iter().filter_map(|d| d.hint.clone()).collect();
    assert_eq!(hints.len(), 1, "{text}: {hints:?}");
    hints[0].clone()
}

#[test]
fn a_sound_map_gives_nothing() {
    let text = include_str!("../../../tests/data/sound.access");
    assert_eq!(codes(text), [] as [&str; 0]);
    assert_eq!(codes(&text.replace('\n', "\r\n")), [] as [&str; 0]);
}

#[test]
fn each_fault_has_its_code_and_place() {
    for (line, expected) in [
        // The value.
        ("TLS_Clt:a.b\tENCR128", "1:13 silently-accepted!"),
        ("TLS_Clt:a.b\tOK # x", "1:13 silently-accepted!"),
        ("TLS_Clt:a.b\tENCR:112 note", "1:22 silently-accepted!"),
        ("TLS_Clt:a.b\tREJECT", "1:13 silently-accepted!"),
        ("TLS_Clt:\tSKIP", "1:10 silently-accepted!"),
        ("TLS_Rcpt:joe@\tSKIP", "1:15 silently-accepted!"),
        ("TLS_Rcpt:a.b\tSKIP", "1:14 skip-feature"),
        ("TLS_Clt:a.b\tENCR:1+FOO", "1:20 ignored-extension!"),
        ("TLS_Srv:a.b\tVERIFY+CN++", "1:20 ignored-extension!"),
        ("TLS_Srv:a.b\tENCR:0112", "1:18 misread-bits"),
        ("TLS_Srv:a.b\tENCR:112bits", "1:18 misread-bits"),
        ("TLS_Srv:a.b\tENCR:-5", "1:18 misread-bits!"),
        ("TLS_Srv:a.b\tVERIFY:abc", "1:20 misread-bits"),
        ("TLS_Srv:a.b\tVERIFY:0", ""),
        ("TLS_Srv:a.b\tENCR:0", "1:18 no-such-bits"),
        ("TLS_Srv:a.b\tENCR:200", "1:18 no-such-bits"),
        ("TLS_Srv:a.b\tENCR:257", "1:18 no-such-bits!"),
        ("TLS_Srv:a.b\tENCR:99999999999", "1:18 no-such-bits!"),
        ("TLS_Srv:a.b\tENCR:0x200", "1:18 misread-bits!"),
        ("TLS_Srv:a.b\tVERIFY+CN:\"a\"", "1:20 unmatchable-name!"),
        ("TLS_Srv:a.b\tVERIFY+CN:b\u{fc}", "1:20 unmatchable-name!"),
        ("TLS_Srv:a.b\tVERIFY+CN:a(b)", "1:20 unmatchable-name!"),
        ("TLS_Srv:a.b\tVERIFY+CN:a (b)", ""),
        ("TLS_Srv:a.b\tVERIFY+CN:a++CN:A", ""),
        ("TLS_Srv:a.b\tVERIFY+CN:a++CS:/O=b++CN:c", "1:35 contradiction!"),
        ("TLS_Srv:a.b\tVERIFY+CN:a+CITag:b", "1:20 single-plus!"),
        ("TLS_Srv:a.b\tVERIFY+CITag:b", "1:20 no-issuers!"),
        // The key.
        ("TLS_Clt:a.b.\tENCR:1", "1:9 never-matches!"),
        ("TLS_Clt:*.b\tENCR", "1:9 never-matches! 1:13 silently-accepted!"),
        ("TLS_Clt:IPv6:0:0:0:0:0:ffff\tENCR:1", "1:9 never-matches!"),
        ("TLS_Rcpt:*@a.b\tENCR:1", "1:10 never-matches!"),
        ("TLS_Rcpt:u@[192.0.2.7]\tENCR:1", ""),
        ("TLS_Clt:partner\tENCR:1", "1:9 single-label"),
        ("TLS_Clt:de\tENCR:1", ""),
        ("TLS_Clt:localhost\tOK", ""),
        ("TLS_Rcpt:joe@\tENCR:1", ""),
        ("TLS_Clt:\tPERM+ENCR:1", "1:1 enforce-all"),
        ("TLS_Srv:\tENCR:1", ""),
        ("TLS_Clt:\tOK", ""),
        ("TLS_Clt:[192.0.2]\tENCR:1", "1:9 bracketed-address"),
        ("TLS_Rcpt:[192.0.2.7]\tENCR:1", ""),
        // The line.
        (" TLS_Clt:a.b\tENCR:1", "1:1 leading-blank!"),
        ("TLS_Clt:a.b\t\r", "1:1 no-value!"),
        ("TLS_Clt: a.b ENCR:1", "1:10 blank-behind-tag!"),
        ("TLS_Clt: partner ENCR:1", "1:10 blank-behind-tag!"),
        ("TLS_Srv:\t192.0.2.7", "1:10 blank-behind-tag!"),
        ("TLS_Rcpt: joe@a.b VERIFY", "1:11 blank-behind-tag!"),
        ("TLS_Srv:\tENCR:112 # a.b", "1:19 silently-accepted!"),
        ("TLS_Srv:\tTEMP ENCR:112", "1:10 silently-accepted!"),
        ("TLS_Cln:a.b\tENCR:1", "1:1 unknown-tag!"),
        ("\u{feff}TLS_Clt:a.b\tENCR:1", "1:1 unknown-tag!"),
        ("TLS_Srv_Features:a.b\tS", ""),
        ("TLS_Srv:a.b\tTEMP+ENCR:1", "1:13 temp-prefix"),
        ("TLS_Srv:a.b  ENCR:1", "1:12 blank-separator"),
    ] {
        assert_eq!(codes(line).join(" "), expected, "{line}");
    }
}

#[test]
fn a_line_that_makemap_finds_too_long_is_told_from_its_first_byte_too_many() {
    for start in ["TLS_Clt:a.b\tENCR:1 (", "#", "Connect:a.b\tOK ", " "] {
        let fits = format!("{start}{}", "x".repeat(1022 - start.len()));
        assert_eq!(codes(&fits).iter().filter(|code| code.contains("long")).count(), 0, "{start}");
        assert_eq!(codes(&format!("\n{fits}TLS_Clt:b.c OK\n")), ["2:1023 line-too-long!"], "{start}");
    }
    // Bytes of Latin-1 are one each to makemap.
    assert_eq!(codes(&format!("#{}", "\u{fffd}".repeat(1021))), [] as [&str; 0]);
}

#[test]
fn a_hint_says_what_was_perhaps_meant() {
    for (value, expected) in [
        ("ENCR128", "did you mean `ENCR:128`?"),
        ("PERM+ENCR=128", "did you mean `PERM+ENCR:128`?"),
        ("ENCR 128", "write `ENCR:128`"),
        ("VERIFY 128", "write `VERIFY:128`"),
        ("ENCR+CN:x", "write `ENCR:1+CN:x` for"),
        ("ENCR:112;", "write `ENCR:112` and nothing"),
        (
            "OK # x",
            "a `#` begins a comment only where it begins a line: put it on a line of its own above, and leave `OK`",
        ),
        ("TMP+ENCR:112", "did you mean `TEMP+`?"),
        ("TEMP ENCR:112", "one prefix stands before a demand, with a `+`: `TEMP+ENCR:112`"),
        ("TEMP+PERM+ENCR:112", "one prefix stands before a demand, with a `+`: `TEMP+ENCR:112`"),
        ("\"ENCR:112\"", "write `ENCR:112` as it stands"),
        ("ENRC:112", "did you mean `ENCR:112`?"),
        ("verfiy", "did you mean `VERIFY`?"),
        ("ERROR:5.7.1:550 no", "`ERROR` is a word of other tags"),
        ("yes", "a TLS rule demands"),
        ("(x)", "a demand is"),
        ("VERIFY+CI:/O=A B", "write it in xtext, as sendmail's macros have it: `CI:/O=A+20B`"),
        (
            "VERIFY+CI:/O=A+20B C+(D)",
            "write it in xtext, as sendmail's macros have it: `CI:/O=A+20B+20C+2B+28D+29`",
        ),
        ("VERIFY++CN", "one `+` stands before the first extension: `+CN`"),
        ("VERIFY+CN:", "a name must stand behind `CN:`"),
    ] {
        let hint = hint(&format!("TLS_Srv:a.b\t{value}"));
        assert!(hint.starts_with(expected), "{value}: {hint}");
    }
}

#[test]
fn a_key_that_stands_twice_is_told_with_its_first_line() {
    let text =
        "TLS_Srv:a.b\tENCR:1\nTLS_Clt:a.b\tENCR:112\n# x\ntls_srv:A.B\tENCR:112\nTLS_Srv:A.b\tencr : 1\n";
    assert_eq!(codes(text), ["4:1 duplicate-key!", "5:1 duplicate-key"]);
    let found = lint(text, Sources::default().add("access".into(), text.into()));
    let messages: Vec<_> = found.diagnostics.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "`TLS_Srv:A.B` stands at line 1 already, with another value",
            "`TLS_Srv:A.b` stands at line 1 already"
        ]
    );
}

#[test]
fn names_go_before_addresses() {
    let rules = "TLS_Clt:a.b\tENCR:1\nTLS_Clt:c.d\tPERM+ENCR:1\nTLS_Clt:e.f\tSKIP\nTLS_Srv:g.h\tENCR:112\n";
    let asked = |rule: &str| {
        codes(&format!("{rules}{rule}")).into_iter().filter(|code| code.ends_with("names-first")).count()
    };
    // The same demand, whatever the code; a name that skips; another side; the machine itself; a demand of no name.
    for rule in [
        "TLS_Clt:192.0.2\tTEMP+ENCR:1",
        "TLS_Clt:192.0.2\tSKIP",
        "TLS_Clt:127.0.0.1\tOK",
        "TLS_Clt:IPv6:0:0:0:0:0:0:0:1\tOK",
    ] {
        assert_eq!(asked(rule), 0, "{rule}");
    }
    for rule in ["TLS_Clt:192.0.2\tENCR:112", "TLS_Clt:192.0.2\tOK", "TLS_Srv:192.0.2\tENCR:1"] {
        assert_eq!(asked(rule), 1, "{rule}");
    }
    let many: Vec<_> = (0..9).map(|n| format!("TLS_Clt:h{n}.b\tENCR:{}\n", 110 + n % 3)).collect();
    let text = format!("{}TLS_Clt:10\tENCR:110\n", many.concat());
    let found = lint(&text, Sources::default().add("access".into(), text.as_str().into()));
    let message = &found.diagnostics.iter().find(|d| d.code == "names-first").unwrap().message;
    assert_eq!(message, "6 rules for names with another demand go before this one: `h1.b`, `h2.b`, `h4.b` …");
}

#[test]
fn issuers_stand_anywhere_in_the_file() {
    let rule = "TLS_Srv:a.b\tVERIFY+CITag:TLS_CA\n";
    assert_eq!(codes(&format!("{rule}tls_ca:/O=x\tok\n")), [] as [&str; 0]);
    assert_eq!(codes(&format!("TLS_CA:/O=x\tOK\n{rule}")), [] as [&str; 0]);
    assert_eq!(codes(&format!("TLS_CA:/O=x\tNO\n{rule}")), ["1:13 issuer-value", "2:20 no-issuers!"]);
    assert_eq!(codes(&format!("TLS_CA:/O=\"x\"\tOK\nTLS_CA:/O=y\tOK\n{rule}")), ["1:1 unmatchable-name!"]);
}

#[test]
fn what_is_the_files_manner_is_said_once_and_what_is_a_rules_at_each() {
    let rules: Vec<_> =
        (0..3).map(|n| format!("TLS_Clt:h{n}.b TEMP+VERIFY\nTLS_Clt:s{n}.b SKIP\n")).collect();
    let text = rules.concat();
    let found = lint(&text, Sources::default().add("access".into(), text.as_str().into()));
    let told: Vec<_> = found.diagnostics.iter().map(|d| (d.code, d.label.as_deref())).collect();
    let (temp, certificate) = (("temp-prefix", None), ("client-certificate", None));
    let (blanks, skip) = (
        ("blank-separator", Some("and in 5 further rules")),
        ("skip-feature", Some("and in 2 further rules")),
    );
    assert_eq!(told, [blanks, temp, certificate, skip, temp, certificate, temp, certificate]);
    assert_eq!(found.rules, 6);
}

#[test]
fn no_text_is_too_strange() {
    let odd = [
        "",
        ":",
        "\u{feff}",
        "TLS_Clt",
        "TLS_Clt:",
        "TLS_Clt:\t",
        "TLS_Clt:[\tOK",
        "TLS_Clt:]\t\"",
        "TLS_Clt:/\t(",
        "TLS_Clt:/999\t\\",
        "TLS_Clt:::/0\t+",
        "TLS_Clt:IPv6:/1\t++",
        "TLS_Clt:\u{fffd}@\tENCR:\u{fffd}",
        "TLS_Clt:*é\tENCR:1+CN:é(",
        "TLS_Clt:?\tVERIFY+CN:)",
        "TLS_Clt: é",
        "TLS_ÜÜ é",
        "TLS_Cltü é",
    ];
    for first in odd {
        for second in odd {
            codes(&format!("{first}{second}\n{second}"));
        }
    }
    let names = |count| format!("TLS_Clt:a.b\tVERIFY+{}CN:z", "CN:y++".repeat(count));
    assert!(codes(&names(150)).len() > 1);
    assert_eq!(codes(&names(20_000)), ["1:1023 line-too-long!"]);
}
