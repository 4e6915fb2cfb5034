//! Maps to policies: what is grouped, kept, left out and said. Whether the policy decides as sendmail does is
//! asked of sendmail itself (`integration/rulesets.rs`).

use super::*;
use crate::diagnostics::Sources;

fn imported(text: &str, options: Options) -> (Imported, Vec<String>) {
    let mut sources = Sources::default();
    let file = sources.add("access".into(), text.into());
    let mut told = Diagnostics::default();
    let imported = import(text, file, "access", options, &mut told);
    let records = told.records(&sources).into_iter().map(|record| {
        let record = serde_json::to_value(record).unwrap();
        format!("{} {}:{}", record["code"].as_str().unwrap(), record["line"], record["column"])
    });
    (imported, records.collect())
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
