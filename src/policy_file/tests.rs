//! The compiler held against small policies in memory.

use super::diff::diff;
use super::load::{Loaded, ReadError, Request, Store, load};
use crate::policy::gate::Gate;
use crate::policy::lookup::Key;
use crate::policy::rule::Side;
use crate::policy::{Day, Policy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files in memory.
struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Store for Memory {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Ok(vec![pattern.to_path_buf()])
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let bytes = self.0.get(path).ok_or(std::io::ErrorKind::NotFound).map_err(std::io::Error::from)?;
        if bytes.len() as u64 > limit { Err(ReadError::TooLarge) } else { Ok(bytes.clone()) }
    }
}

const TODAY: Day = Day(20_000);

fn load_files(files: &[(&str, &[u8])], max_size: u64) -> Loaded {
    let memory = files.iter().map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec())).collect();
    let paths = files.iter().map(|(path, _)| Path::new(path));
    let patterns = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let request = Request { patterns: patterns.map(PathBuf::from).collect(), max_size };
    load(&request, &mut Memory(memory), TODAY)
}

/// The diagnostics of one file, as `code line:column`.
fn codes(text: &str) -> Vec<String> {
    let loaded = load_files(&[("p.toml", text.as_bytes())], 1 << 20);
    let lines = loaded.diagnostics.lines(&loaded.sources).map(|(_, line)| line).collect::<Vec<_>>();
    assert_eq!(loaded.policy.is_some(), !loaded.diagnostics.has_errors(), "{lines:#?}");
    loaded
        .diagnostics
        .iter()
        .zip(&lines)
        .map(|(diagnostic, line)| {
            let place: Vec<&str> = line.split(':').skip(1).take(2).collect();
            format!("{} {}", diagnostic.code, place.join(":"))
        })
        .collect()
}

fn policy(text: &str) -> Policy {
    let loaded = load_files(&[("p.toml", text.as_bytes())], 1 << 20);
    let rendered = loaded.diagnostics.render(&loaded.sources, false);
    loaded.policy.unwrap_or_else(|| panic!("{rendered}"))
}

const DESIGN: &str = r#"
version = 1
[exempt]
authenticated = true
networks   = ["127.0.0.0/8", "::1/128"]
recipients = ["postmaster"]
[reply]
contact = "https://mail.example.org/tls"
[requirement.modern]
min-bits = 128
min-version = "TLSv1.2"
[[rule]]
name = "partner"
comment = "contract 2026-114"
client = ["partner.example", "192.0.2.0/24"]
sender = ["partner.example"]
observe   = { min-bits = 256 }
soft-fail = { min-bits = 168, percent = 25 }
enforce   = { require = "modern", from = 2027-01-15 }
[[rule]]
name = "partner-old-relay"
client = ["198.51.100.7"]
exempt = { reason = "their upgrade is booked", owner = "ops", until = 2027-03-01 }
[[rule]]
name = "everyone"
client = ["*"]
observe = { require = "modern" }
"#;

#[test]
fn the_policy_of_the_design_compiles() {
    assert_eq!(codes(DESIGN), ["no-such-bits 18:26"]);
    let policy = policy(DESIGN);
    assert_eq!(policy.rules().len(), 3);
    assert_eq!(policy.index().side(Side::Client).len(), 4);
    assert_eq!(policy.fingerprint().as_str().len(), 12);
    assert_eq!(policy.contact(), Some("https://mail.example.org/tls"));
}

#[test]
fn a_gate_is_read_and_is_no_part_of_what_a_policy_means() {
    let text =
        "version = 1\n[gate]\nmin-days = 7\nmin-messages = 0\nmax-failures = 3\nevery-peer-passed = false\n";
    let gated = policy(text);
    let gate = Gate { min_days: 7, min_messages: 0, max_failures: 3, every_peer_passed: false };
    assert_eq!(*gated.gate(), gate);
    assert_eq!(gated.fingerprint(), policy("version = 1\n").fingerprint());
    assert_eq!(
        *policy("version = 1\n[gate]\nmin-days = 1\n").gate(),
        Gate { min_days: 1, ..Gate::default() }
    );
    assert_eq!(
        codes("version = 1\n[gate]\nmin-days = -1\nmax-failure = 1\n"),
        ["unknown-field 4:1", "out-of-range 3:12"]
    );
}

#[test]
fn everything_wrong_is_told_at_once_and_where() {
    let rule = "[[rule]]\nname = \"r\"\nclient = [\"a.example\"]\n";
    for (text, expected) in [
        ("", vec!["missing-version 1:1"]),
        ("version = 2\n", vec!["unsupported-version 1:11"]),
        ("version = \"1\"\n", vec!["wrong-type 1:11"]),
        ("version = 1\nrul = 1\n", vec!["unknown-field 2:1"]),
        ("version = 1\nrule = 1\n", vec!["wrong-type 2:8"]),
        ("version = 1\n[[rule]]\n", vec!["missing-name 2:1", "no-keys 2:1", "no-modes 2:1"]),
        ("version = 1\nx = \n", vec!["toml-syntax 2:5"]),
        (
            "version = 1\n[[rule]]\nname = \"r\"\nclient = [\"a\"]\nobserv = { min-bits = 1 }\n",
            vec!["unknown-field 5:1"],
        ),
    ] {
        assert_eq!(codes(text), expected, "{text}");
    }
    for (mode, expected) in [
        ("observe = {}", vec!["empty-requirement 5:11"]),
        ("observe = { min-bits = -1 }", vec!["out-of-range 5:24"]),
        ("observe = { min-bits = 99999999999999999999 }", vec!["out-of-range 5:24"]),
        ("observe = { min-bits = 1.5 }", vec!["wrong-type 5:24"]),
        ("observe = { min-bits = 512 }", vec!["no-such-bits 5:24"]),
        ("observe = { min-bits = 0 }", vec!["no-such-bits 5:24"]),
        ("observe = { min-bit = 128 }", vec!["unknown-field 5:13"]),
        ("observe = { min-version = \"TLS1.2\" }", vec!["bad-version 5:27"]),
        ("observe = { require = \"x\" }", vec!["unknown-requirement 5:23"]),
        ("observe = { min-bits = 128, from = \"2027-01-15\" }", vec!["wrong-type 5:36"]),
        ("observe = { min-bits = 128, from = 2027-01-15T10:00:00Z }", vec!["wrong-type 5:36"]),
        ("observe = { min-bits = 128, from = 2027-02-30 }", vec!["toml-syntax 5:36"]),
        ("observe = { min-bits = 128, from = 1999-01-01 }", vec![]),
        ("enforce = { min-bits = 128, percent = 5 }", vec!["misplaced-percent 5:39"]),
        ("soft-fail = { min-bits = 128, percent = 101 }", vec!["out-of-range 5:41"]),
        ("soft-fail = { min-bits = 128, max-delay = \"4h\" }", vec![]),
        ("soft-fail = { min-bits = 128, max-delay = \"1d 90m\" }", vec![]),
        ("soft-fail = { min-bits = 128, max-delay = \"3d\" }", vec!["long-delay 5:43"]),
        ("soft-fail = { min-bits = 128, max-delay = \"6d\" }", vec!["bad-delay 5:43"]),
        ("soft-fail = { min-bits = 128, max-delay = \"4\" }", vec!["bad-delay 5:43"]),
        ("soft-fail = { min-bits = 128, max-delay = \"-4h\" }", vec!["bad-delay 5:43"]),
        ("soft-fail = { min-bits = 128, max-delay = 4 }", vec!["wrong-type 5:43"]),
        ("soft-fail = { max-delay = \"4h\" }", vec!["empty-requirement 5:13"]),
        ("observe = { min-bits = 128, max-delay = \"4h\" }", vec!["misplaced-delay 5:41"]),
        ("observe = { min-bits = 128 }\nsoft-fail = { min-bits = 128, max-delay = \"4h\" }", vec![]),
        ("observe = { cn = \"\" }", vec!["empty-name 5:18", "unverified-name 5:18"]),
        ("observe = { verify = false }", vec!["empty-requirement 5:11"]),
        ("exempt = { reason = \"x\" }\nobserve = { min-bits = 128 }", vec!["dead-modes 3:8"]),
        ("observe = { cn = true, verify = true, cert-issuer = \"/CN=X\" }", vec![]),
        ("observe = { verify = true, cert-issuer = [\"/CN=X\", \"/CN=Y\"], cn = [] }", vec!["no-names 5:67"]),
        ("observe = { verify = true, cert-issuer = true }", vec!["wrong-type 5:42"]),
        ("observe = { verify = true, cn = [1] }", vec!["wrong-type 5:34"]),
        ("observe = { handshake = true }", vec![]),
        ("observe = { handshake = false }", vec!["empty-requirement 5:11"]),
        ("exempt = {}\nobserve = { handshake = true }", vec![]),
        ("skip = true", vec![]),
        ("skip = false", vec!["no-modes 3:8"]),
        ("skip = 1", vec!["wrong-type 5:8"]),
        ("skip = true\nobserve = { min-bits = 128 }", vec!["skip-and-more 5:8"]),
        ("skip = true\nexempt = {}", vec!["skip-and-more 5:8"]),
        ("exempt = { until = 2000-01-01 }", vec!["lapsed-exemption 5:20"]),
        ("exempt = true", vec!["wrong-type 5:10"]),
        ("observe = { min-bits = 128 }\nenforce = { min-bits = 128 }", vec!["never-alone 5:11"]),
        ("observe = { min-bits = 128 }\nenforce = { min-bits = 128, from = 2999-01-01 }", vec![]),
        ("observe = { min-bits = 128 }\nsoft-fail = { min-bits = 128, percent = 5 }", vec![]),
        ("observe = { min-bits = 256 }\nenforce = { min-bits = 128 }", vec![]),
    ] {
        assert_eq!(codes(&format!("version = 1\n{rule}{mode}\n")), expected, "{mode}");
    }
}

#[test]
fn a_key_that_could_never_match_is_an_error() {
    for (side, key, expected) in [
        ("client", "partner.example", None),
        ("client", "192.0.2.0/24", None),
        ("client", "IPv6:2001:db8:0:0:0:0:0:25", None),
        ("client", "192.0.2.7/24", Some("host-bits")),
        ("client", ".example.com", Some("bad-key")),
        ("client", "*.example.com", Some("bad-key")),
        ("client", "192.0.2.", Some("bad-key")),
        ("client", "example.com.", Some("bad-key")),
        ("client", "not a name", Some("bad-key")),
        ("client", "", Some("bad-key")),
        ("client", "a@b.example", Some("bad-key")),
        ("sender", "a@b.example", None),
        ("sender", "@b.example", Some("bad-key")),
        ("sender", "a@", Some("bad-key")),
        ("sender", "a@[192.0.2.7]", None),
        ("recipient", "a@[IPv6:2001:db8:0:0:0:0:0:25]", None),
        ("recipient-outbound", "A@[192.0.2.7]", None),
        ("recipient-outbound", "a@[192.0.2]", Some("bad-key")),
        ("recipient-outbound", "a@192.0.2.7", Some("bad-key")),
        ("sender", "192.0.2.0/24", Some("bad-key")),
        ("recipient", "*", None),
        ("client", "[192.0.2.0/24]", None),
        ("client", "[IPv6:2001:db8]", None),
        ("sender", "[192.0.2.7]", None),
        ("client", "[partner.example]", Some("bad-key")),
        ("recipient-outbound", "a@", None),
        ("server", "2001:db8::/32", None),
        ("recipient-outbound", "b.example", None),
        ("recipient", "sales", Some("single-label")),
        ("sender", "u@", Some("bad-key")),
        ("sender", "a@b@c.example", Some("bad-key")),
        ("sender", "a b@c.example", Some("bad-key")),
        ("sender", "\\\"a b\\\"@c.example", None),
        ("client", "192.0.2.1-5", Some("bad-key")),
    ] {
        let text = format!(
            "version = 1\n[[rule]]\nname = \"r\"\n{side} = [\"{key}\"]\nobserve = {{ min-bits = 1 }}\n"
        );
        let found = codes(&text);
        assert_eq!(
            found.first().and_then(|code| code.split(' ').next()),
            expected,
            "{side} {key}: {found:?}"
        );
    }
}

#[test]
fn everyone_may_be_written_as_a_network() {
    let text = "version = 1\n[[rule]]\nname = \"r\"\nclient = [\"0.0.0.0/0\", \"::/0\"]\nenforce = { min-bits = 1 }\n";
    assert_eq!(codes(text), ["enforce-all 4:11", "enforce-all 4:24"]);
}

#[test]
fn an_empty_list_may_be_half_written() {
    let rule = b"version = 1\n[[rule]]\nname = \"r\"\nclient-file = \"l\"\nobserve = { min-bits = 1 }\n";
    for (list, sound) in [
        (b"".as_slice(), false),
        (b"\n \n", false),
        (b"# none\n", true),
        ("\u{feff}a.example\n".as_bytes(), true),
    ] {
        let loaded = load_files(&[("p.toml", rule), ("l", list)], 1 << 20);
        assert_eq!(loaded.policy.is_some(), sound, "{list:?}");
    }
}

#[test]
fn a_key_belongs_to_one_rule() {
    let two = "version = 1
        [[rule]]\nname = \"a\"\nclient = [\"X.example\", \"x.example\"]\nobserve = { min-bits = 1 }
        [[rule]]\nname = \"b\"\nclient = [\"x.example\"]\nsender = [\"x.example\"]\nobserve = { min-bits = 1 }
        [[rule]]\nname = \"b\"\nclient = [\"*\"]\nenforce = { min-bits = 1 }\n";
    assert_eq!(
        codes(two),
        ["duplicate-key 4:24", "duplicate-key 8:11", "duplicate-rule 12:8", "enforce-all 13:11"]
    );
}

#[test]
fn several_files_are_one_policy() {
    let one = b"version = 1\n[requirement.modern]\nmin-bits = 128\n[exempt]\nnetworks = []\n";
    let two = b"version = 1\n[[rule]]\nname = \"r\"\nclient-file = \"lists/partners.txt\"\nenforce = { require = \"modern\" }\n";
    let list = b"# partners\nPartner.Example # the first\n\n  192.0.2.0/24\r\n";
    let files: &[(&str, &[u8])] = &[("d/one.toml", one), ("d/two.toml", two), ("d/lists/partners.txt", list)];
    let loaded = load_files(files, 1 << 20);
    let policy = loaded.policy.unwrap();
    assert_eq!(policy.index().side(Side::Client).len(), 2);
    assert!(policy.index().side(Side::Client).get(Key::Name("partner.example")).is_some());
    assert!(policy.exempt().networks.is_empty());

    let broken: &[(&str, &[u8])] = &[
        ("d/one.toml", b"version = "),
        ("d/two.toml", two),
        ("d/lists/partners.txt", b"ok.example\nbad key\n"),
    ];
    let loaded = load_files(broken, 1 << 20);
    let lines: Vec<_> = loaded.diagnostics.lines(&loaded.sources).map(|(_, line)| line).collect();
    assert!(loaded.policy.is_none());
    // The requirement may well stand in the file that is broken: nothing is said of it.
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[1].starts_with("d/lists/partners.txt:2:1: `bad key` cannot be a key"), "{lines:#?}");
}

#[test]
fn what_cannot_be_read_is_told_by_name() {
    let rule =
        b"version = 1\n[[rule]]\nname = \"r\"\nclient-file = \"gone.txt\"\nobserve = { min-bits = 1 }\n";
    let loaded = load_files(&[("p.toml", rule)], 1 << 20);
    let text = loaded.diagnostics.render(&loaded.sources, false);
    assert!(
        text.contains("error[unreadable-file]: cannot read gone.txt") && text.contains("p.toml:4:15"),
        "{text}"
    );

    let loaded = load_files(&[("p.toml", b"version = 1\n\xff\xfe\0")], 1 << 20);
    let text = loaded.diagnostics.render(&loaded.sources, false);
    assert!(text.contains("error[not-utf8]: p.toml is not UTF-8 text (line 2, byte 12)"), "{text}");

    let loaded = load_files(&[("p.toml", DESIGN.as_bytes())], 100);
    let text = loaded.diagnostics.render(&loaded.sources, false);
    assert!(
        text.contains("error[too-large]: p.toml makes the policy larger than the 100 bytes allowed"),
        "{text}"
    );
}

#[test]
fn the_fingerprint_knows_the_meaning_alone() {
    let base = policy(DESIGN);
    let reordered = DESIGN.replace(
        "client = [\"partner.example\", \"192.0.2.0/24\"]",
        "# a comment\nclient = [\"IPv6:0:0:0:0:0:ffff:c000:200/120\", \"PARTNER.example\"]",
    );
    assert_eq!(base.fingerprint(), policy(&reordered).fingerprint());
    assert_eq!(diff(&base, &policy(&reordered)), [] as [String; 0]);
    let again = DESIGN.replace("[\"127.0.0.0/8\", \"::1/128\"]", "[\"::1\", \"127.0.0.0/8\", \"::1/128\"]");
    assert_eq!(base.fingerprint(), policy(&again).fingerprint());
    for (from, to) in [("256", "255"), ("https", "http"), ("[\"*\"]", "[\"x\"]"), ("\"everyone\"", "\"all\"")]
    {
        assert_ne!(base.fingerprint(), policy(&DESIGN.replace(from, to)).fingerprint(), "{to}");
    }
}

#[test]
fn keys_that_moved_are_no_change_and_each_that_did_is_told_once() {
    let rules = |lists: [&str; 2]| {
        let rule = |(name, keys): (&str, &str)| {
            let keys: Vec<String> = keys.split(' ').map(|key| format!("\"{key}.example\"")).collect();
            format!(
                "[[rule]]\nname = \"{name}\"\nclient = [{}]\nobserve = {{ min-bits = 128 }}\n",
                keys.join(", ")
            )
        };
        let rules: Vec<String> = ["one", "two"].into_iter().zip(lists).map(rule).collect();
        policy(&format!("version = 1\n{}", rules.concat()))
    };
    let old = rules(["a b c d e f", "g h"]);
    for (new, expected) in [
        (["f e d c b a", "h g"], vec![]),
        (["b c d e f", "g h"], vec!["rule one: client removed a.example"]),
        (
            ["x a b c d e f y", "g z h"],
            vec!["rule one: client added x.example, y.example", "rule two: client added z.example"],
        ),
        (
            ["c x a f", "h g"],
            vec![
                "rule one: client removed b.example, d.example, e.example",
                "rule one: client added x.example",
            ],
        ),
        (
            ["a b c d e", "f g h"],
            vec!["rule one: client removed f.example", "rule two: client added f.example"],
        ),
        (
            ["y", "g h"],
            vec![
                "rule one: client removed a.example, b.example, c.example, d.example, e.example and 1 more",
                "rule one: client added y.example",
            ],
        ),
    ] {
        assert_eq!(diff(&old, &rules(new)), expected, "{new:?}");
    }
}

#[test]
fn a_list_is_read_whatever_its_lines_end_with() {
    let list = b"\xef\xbb\xbfa.example\r\nB.example  # two\r\n\n# none\n  c.example\t\nd.example";
    let text = "version = 1\n[[rule]]\nname = \"r\"\nclient-file = \"l\"\nobserve = { min-bits = 128 }\n";
    let loaded = load_files(&[("p.toml", text.as_bytes()), ("l", list)], 1 << 20);
    let policy = loaded.policy.unwrap();
    let keys: Vec<String> =
        policy.index().side(Side::Client).iter().map(|found| found.key.to_string()).collect();
    assert_eq!(keys, ["a.example", "b.example", "c.example", "d.example"]);
    assert!(loaded.diagnostics.lines(&loaded.sources).next().is_none());
    let twice = load_files(
        &[("p.toml", text.as_bytes()), ("l", b"a.example\r\n b.example\r\nb.example\r\n")],
        1 << 20,
    );
    let told: Vec<String> = twice.diagnostics.lines(&twice.sources).map(|(_, line)| line).collect();
    assert_eq!(told, ["l:3:1: `b.example` stands twice in this rule [duplicate-key]"]);
}

#[test]
fn a_change_is_told_in_terms_of_meaning() {
    let old = policy(DESIGN);
    let new = DESIGN
        .replace("observe   = { min-bits = 256 }", "")
        .replace("min-bits = 168, percent = 25", "min-bits = 256")
        .replace("\"192.0.2.0/24\"", "\"203.0.113.0/24\", \"b.example\"")
        .replace("name = \"everyone\"", "name = \"all\"")
        .replace("until = 2027-03-01", "until = 2027-04-01")
        .replace("recipients = [\"postmaster\"]", "recipients = [\"postmaster\", \"abuse\"]")
        .replace("from = 2027-01-15", "from = 2027-02-15");
    assert_eq!(
        diff(&old, &policy(&new)),
        [
            "exempt: recipients added abuse",
            "rule all: added",
            "rule all: observe added min-bits 128, min-version TLSv1.2",
            "rule all: client added *",
            "rule everyone: removed",
            "rule partner: enforce changed from min-bits 128, min-version TLSv1.2, from 2027-01-15 to min-bits 128, min-version TLSv1.2, from 2027-02-15",
            "rule partner: soft-fail raised from min-bits 168, percent 25 to min-bits 256",
            "rule partner: observe removed min-bits 256",
            "rule partner: client removed 192.0.2.0/24",
            "rule partner: client added 203.0.113.0/24, b.example",
            "rule partner-old-relay: exempt changed: their upgrade is booked, owner ops, until 2027-04-01",
        ]
    );
    let enforced = DESIGN.replace(
        "observe = { require = \"modern\" }",
        "observe = { require = \"modern\" }\nenforce = { min-bits = 1 }",
    );
    assert_eq!(diff(&old, &policy(&enforced)), ["rule everyone: enforce added min-bits 1"]);
}
