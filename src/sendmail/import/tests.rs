//! Maps to policies: what is grouped, kept, left out and said. Whether the policy decides as sendmail does is
//! asked of sendmail itself (`integration/rulesets.rs`).

use super::*;
use crate::diagnostics::Sources;

/// What came of it, with the policy written out.
struct Written {
    policy: String,
    rules: usize,
    taken: usize,
    inexact: bool,
}

fn imported(text: &str, options: Options) -> (Written, Vec<String>) {
    let mut sources = Sources::default();
    let file = sources.add("access".into(), text.into());
    let mut told = Diagnostics::default();
    let imported = import(text, file, "access", options, &mut told);
    let records = told.records(&sources).into_iter().map(|record| {
        let record = serde_json::to_value(record).unwrap();
        format!("{} {}:{}", record["code"].as_str().unwrap(), record["line"], record["column"])
    });
    let mut policy = Vec::new();
    imported.write(&mut policy).unwrap();
    let Imported { rules, taken, inexact, .. } = imported;
    (Written { policy: String::from_utf8(policy).unwrap(), rules, taken, inexact }, records.collect())
}

/// The rules, each as one line, without the one that is always there.
fn rules(text: &str, options: Options) -> Vec<String> {
    let policy = imported(text, options).0.policy;
    let (_, rules) = policy.split_once("recipients = []\n").unwrap();
    let rules = rules.split("[[rule]]\n").skip(1).map(|rule| {
        let lines = rule.lines().map(|line| line.split(" # line").next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>().join(" ")
    });
    rules.filter(|rule| !rule.contains("\"handshake\"")).collect()
}

#[test]
fn lines_with_one_requirement_become_one_rule() {
    let text = "TLS_Clt:a.example\tENCR:128\nTLS_Srv:a.example\tTEMP+ENCR:128\nTLS_Clt:192.0.2\tencr:128\n\
                TLS_Rcpt:joe@a.example\tPERM+ENCR:128\nTLS_Clt:b.example\tVERIFY:128+CN\n";
    assert_eq!(
        rules(text, Options::default()),
        [
            "name = \"encr-128\" client = [ \"a.example\", \"192.0.2.0/24\", ] server = [\"a.example\"] \
             soft-fail = { min-bits = 128 }",
            "name = \"perm-encr-128\" recipient-outbound = [\"joe@a.example\"] enforce = { min-bits = 128 }",
            "name = \"verify-128-cn\" client = [\"b.example\"] \
             soft-fail = { min-bits = 128, verify = true, cn = true }",
        ]
    );
    let observed = rules(text, Options { mode: Some(Mode::Observe), ..Options::default() });
    assert_eq!(observed.len(), 2);
    assert!(observed.iter().all(|rule| rule.contains("observe = {")), "{observed:?}");
    let permanent = rules(text, Options { tls_perm_err: true, ..Options::default() });
    assert!(permanent[0].contains("enforce") && permanent[1].contains("soft-fail"), "{permanent:?}");
}

#[test]
fn what_sendmail_accepts_is_an_exemption_and_says_why() {
    let text = "TLS_Clt:a.example\tOK\nTLS_Clt:b.example\tENCR128\nTLS_Clt:c.example\tSKIP\nTLS_Clt:\tSKIP\n";
    assert_eq!(
        rules(text, Options::default()),
        [
            "name = \"ok\" client = [\"a.example\"] exempt = { reason = \"OK in the access map\" } \
             soft-fail = { handshake = true }",
            "name = \"accepts-encr128\" client = [\"b.example\"] exempt = { reason = \
             \"sendmail accepts `ENCR128` silently: a colon must stand before the bits\" } \
             soft-fail = { handshake = true }",
            "name = \"skip\" client = [\"c.example\"] skip = true",
            "name = \"accepts-skip\" client = [\"*\"] exempt = { reason = \"sendmail accepts `SKIP` here\" } \
             soft-fail = { handshake = true }",
        ]
    );
}

#[test]
fn what_is_left_out_stands_there_as_a_comment_and_is_told() {
    let text = "Connect:x REJECT\nTLS_Clt:*.a.example\tENCR:112\n TLS_Clt:b.example\tOK\nTLS_Srv:c.example\n\
                TLS_Clt:d.example\tENCR:112\nTLS_Clt:D.example\tENCR:256\nTLS_Client:e\tOK\n";
    let (imported, told) = imported(text, Options::default());
    assert_eq!((imported.rules, imported.taken, imported.inexact), (6, 1, false));
    assert_eq!(
        told,
        ["never-matches 2:9", "leading-blank 3:1", "no-value 4:1", "duplicate-key 6:9", "unknown-tag 7:1"]
    );
    for left in [
        "# line 2, not imported: never matches: sendmail's keys have no wildcards\n#     TLS_Clt:*.a.example ENCR:112",
        "# line 3, not imported: makemap refuses a line that begins with a blank",
        "# line 6, not imported: makemap keeps the first of two lines with one key",
    ] {
        assert!(imported.policy.contains(left), "{left} in\n{}", imported.policy);
    }
    assert!(!imported.policy.contains("REJECT"));
}

#[test]
fn comments_go_with_the_rules_below_them() {
    let text = "# the file\n\n# contract 2026-114\n# ask Anna \"x\"\nTLS_Clt:a.example\tENCR:128\n\
                TLS_Clt:b.example\tENCR:256\n\nTLS_Clt:c.example\tOK\n# later\nTLS_Clt:d.example\tENCR:128\n\
                # not ours\nConnect:x OK\nTLS_Srv:e.example\tVERIFY\n";
    let rules = rules(text, Options::default());
    let comment = |rule: &str| {
        rule.split("comment = ").nth(1).map(|rest| rest.split(" client").next().unwrap().to_owned())
    };
    assert_eq!(
        rules.iter().map(|rule| comment(rule)).collect::<Vec<_>>(),
        [
            Some(r#""the file\ncontract 2026-114\nask Anna \"x\"\nlater""#.to_owned()),
            Some(r#""the file\ncontract 2026-114\nask Anna \"x\"""#.to_owned()),
            None,
            None,
        ]
    );
}

#[test]
fn what_a_policy_words_otherwise_is_told() {
    let text = "TLS_Clt:a\tENCR:0112\nTLS_Clt:b\tENCR:99999\nTLS_Clt:c\tENCR:1+CN:x y\n\
                TLS_Clt:d\tENCR:1+CN:a++CN:b\nTLS_Clt:e\tENCR:1+CITag:none\n";
    let (exact, told) = imported(text, Options::default());
    assert!(!exact.inexact);
    assert_eq!(
        told,
        ["misread-bits 1:16", "differs 2:11", "unmatchable-name 3:18", "contradiction 4:24", "differs 5:11",]
    );
    let (inexact, told) = imported("TLS_Clt:a\tENCR:1+CN++CN:x\n", Options::default());
    assert!(inexact.inexact);
    assert_eq!(told, ["inexact 1:11"]);
}

#[test]
fn what_sendmail_takes_otherwise_stands_beside_the_key() {
    let text = "TLS_Clt:a\tENCR:112+CN:x++FOO\nTLS_Clt:b\tENCR:abc\nTLS_Clt:c\tENCR:0112\nTLS_Clt:d\tENCR:112+CN++\n\
                TLS_Clt:e\tENCR:112+CN:x+CS:y\nTLS_Clt: f.example ENCR:112\nTLS_Clt:g\tENCR:0x70+CN:x y\n";
    let (imported, _) = imported(text, Options::default());
    for (note, key) in [
        ("sendmail does not know `FOO`, and accepts without looking further", "\"a\", # line 1"),
        ("`abc` counts as 0 bits: that demands no encryption", "\"b\", # line 2"),
        ("`0112` is octal: sendmail demands 74 bits", "\"c\", # line 3"),
        ("a `++` at the end: sendmail looks at none of the extensions", "\"d\", # line 4"),
        ("a single `+` ends no name: no CN is ever `x+CS:y`, and everyone is refused", "\"e\", # line 5"),
        (
            "a blank behind `TLS_Clt:` makes this the rule for everyone, and sendmail accepts its value, \
             `f.example ENCR:112`",
            "\"*\", # line 6",
        ),
        (
            "`0x70` is hexadecimal: sendmail demands 112 bits\n    # no CN is ever `x y`: everyone is refused",
            "\"g\", # line 7",
        ),
    ] {
        let beside = format!("[\n    # {note}\n    {key}\n");
        let among = format!("\n    # {note}\n    {key}\n");
        assert!(
            imported.policy.contains(&beside) || imported.policy.contains(&among),
            "{note}\n{}",
            imported.policy
        );
    }
}

#[test]
fn the_handshake_is_a_rule_of_its_own() {
    let (imported, _) = imported("TLS_Clt:q.example\tENCR:0\n", Options::default());
    for part in [
        "name = \"encr-0\"\nclient = [\"q.example\"] # line 1\nsoft-fail = { handshake = true }\n",
        "name = \"handshake\"\ncomment = ",
        "\nclient = [\"*\"]\nserver = [\"*\"]\nsoft-fail = { handshake = true }\n",
    ] {
        assert!(imported.policy.contains(part), "{part} in\n{}", imported.policy);
    }
}

#[test]
fn a_line_that_is_too_long_is_left_out_and_cut() {
    let long = "x".repeat(2000);
    let text = format!(
        "TLS_Clt:a\tENCR:112+CN:{long}\n# {long} TLS_Clt:b OK\nTLS_Clt:c\tENCR:1\nConnect:{long} OK\n"
    );
    let (imported, told) = imported(&text, Options::default());
    assert_eq!((imported.rules, imported.taken), (2, 1));
    assert_eq!(told, ["line-too-long 1:1023", "line-too-long 2:1023", "line-too-long 4:1023"]);
    let left = "# line 1, not imported: makemap refuses a line of more than 1022 bytes, and takes the rest of it for another line\n#     TLS_Clt:a ENCR:112+CN:xx";
    assert!(imported.policy.contains(left), "{}", imported.policy);
    assert!(imported.policy.lines().all(|line| line.chars().count() < 220), "{}", imported.policy);
}

#[test]
fn an_ipv4_mapped_key_is_no_rule_for_all_of_ipv4() {
    let text = "TLS_Clt:IPv6:0:0:0:0:0:ffff\tPERM+ENCR:256\nTLS_Clt:IPv6:0:0:0:0:0\tENCR:1\n";
    let (imported, told) = imported(text, Options::default());
    assert_eq!((imported.taken, told), (1, vec!["never-matches 1:9".to_owned()]));
    assert!(imported.policy.contains("client = [\"::/80\"] # line 2"), "{}", imported.policy);
    assert!(imported.policy.contains("# line 1, not imported: never matches: "), "{}", imported.policy);
}
