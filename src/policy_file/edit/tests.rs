//! Steps in texts of every layout: what comes out, byte by byte, and that it means what the step says.

use super::*;
use crate::policy::rule::{Delay, Rule};
use crate::policy::step::{Proposal, Wish, demote, promote};
use crate::policy::{Day, Policy};
use crate::policy_file::load::{Loaded, ReadError, Request, Store, load};
use proptest::prelude::*;
use proptest::sample::select;
use std::path::{Path, PathBuf};

const TODAY: Day = Day(20_000);

/// One file in memory.
struct Text<'t>(&'t str);

impl Store for Text<'_> {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Ok(vec![pattern.to_path_buf()])
    }

    fn read(&mut self, _: &Path, _: u64) -> Result<Vec<u8>, ReadError> {
        Ok(self.0.as_bytes().to_vec())
    }
}

fn policy(text: &str) -> Policy {
    let request = Request { patterns: vec!["p.toml".into()], max_size: 1 << 20 };
    let Loaded { policy, diagnostics, sources, .. } = load(&request, &mut Text(text), TODAY);
    policy.unwrap_or_else(|| panic!("{}\n{text}", diagnostics.render(&sources, false)))
}

fn rule(text: &str, name: &str) -> Rule {
    policy(text).rules().iter().find(|rule| rule.name == name).unwrap().clone()
}

/// Makes the step, which must come to mean what it says, for this rule and for no other.
fn make(text: &str, name: &str, proposal: &Proposal) -> Result<String, EditError> {
    assert!(has_rule(text, name));
    let out = apply(text, name, &proposal.step)?;
    let (before, after) = (policy(text), policy(&out));
    assert_eq!(before.rules().len(), after.rules().len());
    for (before, after) in before.rules().iter().zip(after.rules()) {
        let modes = if before.name == name { &proposal.step.after } else { &before.modes };
        assert_eq!(after, &Rule { modes: modes.clone(), ..before.clone() }, "{out}");
    }
    Ok(out)
}

fn up_with(text: &str, to: Mode, wish: Wish) -> String {
    make(text, "x", &promote(&rule(text, "x"), to, wish, TODAY).unwrap()).unwrap()
}

/// The lines of a rule named `x` after a step up of it.
fn up(lines: &str, to: Mode) -> String {
    let head = "version = 1\n[[rule]]\nname = \"x\"\nclient = [\"x.example\"]\n";
    up_with(&format!("{head}{lines}"), to, Wish::default()).strip_prefix(head).unwrap().to_owned()
}

fn down(lines: &str, to: Mode) -> String {
    let head = "version = 1\n[[rule]]\nname = \"x\"\nclient = [\"x.example\"]\n";
    let text = format!("{head}{lines}");
    let out = make(&text, "x", &demote(&rule(&text, "x"), to, Wish::default(), TODAY).unwrap()).unwrap();
    out.strip_prefix(head).unwrap().to_owned()
}

use Mode::{Enforce, Observe, SoftFail};

#[test]
fn a_mode_is_renamed_where_it_stands() {
    for (before, to, after) in [
        ("observe = { min-bits = 128 }\n", Enforce, "enforce = { min-bits = 128 }\n"),
        (
            "# why\nobserve = { min-bits = 128 } # note\n",
            SoftFail,
            "# why\nsoft-fail = { min-bits = 128 } # note\n",
        ),
        ("observe={min-bits=128}\n", SoftFail, "soft-fail={min-bits=128}\n"),
        ("soft-fail = { min-bits = 128 }\n", Enforce, "enforce = { min-bits = 128 }\n"),
        ("\t\"observe\"\t=\t{ min-bits = 128 }\n", Enforce, "\tenforce\t=\t{ min-bits = 128 }\n"),
        ("'observe' = { 'min-bits' = 0x80 }\n", Enforce, "enforce   = { 'min-bits' = 0x80 }\n"),
        ("observe.min-bits = 128\n", Enforce, "enforce.min-bits = 128\n"),
        (
            "observe . min-bits = 128\n\n 'observe'.\"min-version\" = \"TLSv1.2\" # a.b\ncomment = \"c\"\n",
            SoftFail,
            "soft-fail . min-bits = 128\n\n soft-fail.\"min-version\" = \"TLSv1.2\" # a.b\ncomment = \"c\"\n",
        ),
        (
            "# above\n[rule.observe] # header\nmin-bits = 128\n# below\n",
            Enforce,
            "# above\n[rule.enforce] # header\nmin-bits = 128\n# below\n",
        ),
        ("[ rule . 'observe' ]\nmin-bits = 128\n", Enforce, "[ rule . enforce ]\nmin-bits = 128\n"),
        // Of several lines, with comments: nothing within is touched.
        (
            "observe = {\n  # why\n  min-bits = 128,\n}\n",
            Enforce,
            "enforce = {\n  # why\n  min-bits = 128,\n}\n",
        ),
    ] {
        // A quoted key is wider than its name: its `=` moves.
        let after = after.replace("enforce   = { 'min-bits'", "enforce = { 'min-bits'");
        assert_eq!(up(before, to), after, "{before}");
    }
}

#[test]
fn columns_that_were_aligned_stay_so() {
    let three =
        "observe   = { min-bits = 256 }\nsoft-fail = { min-bits = 168 }\nenforce   = { min-bits = 128 }\n";
    assert_eq!(up(three, Enforce), "observe   = { min-bits = 256 }\nenforce   = { min-bits = 168 }\n");
    assert_eq!(up(three, SoftFail), "soft-fail = { min-bits = 256 }\nenforce   = { min-bits = 128 }\n");
    let two = "observe   = { min-bits = 256 }\nsoft-fail = { min-bits = 168 }\n";
    assert_eq!(up(two, Enforce), "observe   = { min-bits = 256 }\nenforce   = { min-bits = 168 }\n");
    assert_eq!(up("observe   = { min-bits = 256 }\n", SoftFail), "soft-fail = { min-bits = 256 }\n");
}

#[test]
fn what_has_no_meaning_in_the_harder_mode_is_left_behind() {
    for (before, after) in [
        ("soft-fail = { min-bits = 168, percent = 25 }\n", "enforce = { min-bits = 168 }\n"),
        ("soft-fail = { percent = 25, min-bits = 168 }\n", "enforce = { min-bits = 168 }\n"),
        (
            "soft-fail = {percent=25,max-delay=\"4h\",verify=true,from=2020-01-01}\n",
            "enforce = {verify=true}\n",
        ),
        (
            "soft-fail = { min-bits = 168, percent = 25, verify = true, from = 2020-01-01, }\n",
            "enforce = { min-bits = 168, verify = true, }\n",
        ),
        ("soft-fail.percent = 25\nsoft-fail.min-bits = 168\n", "enforce.min-bits = 168\n"),
        ("soft-fail.percent = 100 # all\nsoft-fail.min-bits = 168\n", "# all\nenforce.min-bits = 168\n"),
        (
            "[rule.soft-fail]\n# who\n  percent = 25\nmin-bits = 168\nmax-delay = \"1h\"",
            "[rule.enforce]\n# who\nmin-bits = 168",
        ),
    ] {
        assert_eq!(up(before, Enforce), after, "{before}");
    }
}

#[test]
fn one_that_is_there_makes_way_and_keeps_its_place() {
    for (before, after) in [
        (
            "observe = { min-bits = 256 }\nenforce = { min-bits = 128 } # since May\n",
            "enforce = { min-bits = 256 } # since May\n",
        ),
        (
            "enforce = { min-bits = 128 }\n# tried out\nobserve = { min-bits = 256, verify = true } # until June\ncomment = \"c\"\n",
            "enforce = { min-bits = 256, verify = true }\n# tried out\n# until June\ncomment = \"c\"\n",
        ),
        (
            "enforce.min-bits = 128 # old\nenforce.min-version = \"TLSv1.2\"\nobserve = { verify = true, min-bits = 256, min-version = \"TLSv1.2\" }\n",
            "enforce.verify = true # old\nenforce.min-bits = 256\nenforce.min-version = \"TLSv1.2\"\n",
        ),
        (
            "observe = { min-bits = 256 }\n\n[rule.enforce]\nmin-bits = 128\n",
            "\n[rule.enforce]\nmin-bits = 256\n",
        ),
        (
            "enforce = { min-bits = 128 }\n\n[rule.observe]\nmin-bits = 256\ncert-subject = [\n  \"/CN=a\", # one\n  \"/CN=b\",\n]\nverify = true\n\n[reply]\n",
            "enforce = { min-bits = 256, cert-subject = [\n  \"/CN=a\", # one\n  \"/CN=b\",\n], verify = true }\n\n[reply]\n",
        ),
        (
            "enforce = {min-bits=128,from=2020-01-01}\nobserve = { min-bits = 256 }\n",
            "enforce = {min-bits = 256}\n",
        ),
    ] {
        assert_eq!(up(before, Enforce), after, "{before}");
    }
    let soft =
        "observe = { min-bits = 256 }\nsoft-fail = { percent = 25, max-delay = \"240m\", min-bits = 128 }\n";
    assert_eq!(up(soft, SoftFail), "soft-fail = { percent = 25, max-delay = \"240m\", min-bits = 256 }\n");
}

#[test]
fn settings_that_are_wished_for_are_written() {
    let head = "version = 1\n[[rule]]\nname = \"x\"\nclient = [\"x.example\"]\n";
    let wish = Wish { percent: Some(25), max_delay: Some(Delay(4 * 3600)), from: None };
    for (before, after) in [
        (
            "observe = { min-bits = 256 }\n",
            "soft-fail = { min-bits = 256, percent = 25, max-delay = \"4h\" }\n",
        ),
        (
            "soft-fail = { percent = 50, min-bits = 128 }\nobserve = { min-bits = 256, from = 2020-01-01 }\n",
            "soft-fail = { percent = 25, min-bits = 256, max-delay = \"4h\" }\n",
        ),
        (
            "  observe.min-bits = 256\n",
            "  soft-fail.min-bits = 256\n  soft-fail.percent = 25\n  soft-fail.max-delay = \"4h\"\n",
        ),
        (
            "[rule.observe]\nmin-bits = 256 # b",
            "[rule.soft-fail]\nmin-bits = 256 # b\npercent = 25\nmax-delay = \"4h\"",
        ),
    ] {
        assert_eq!(up_with(&format!("{head}{before}"), SoftFail, wish), format!("{head}{after}"));
    }
    let wish = Wish { from: Some(Day(TODAY.0 + 1)), ..Wish::default() };
    for (before, after) in [
        (
            "observe   = { min-bits = 256 } # o\n",
            "observe   = { min-bits = 256 } # o\nenforce   = { min-bits = 256, from = 2024-10-05 }\n",
        ),
        (
            "observe.min-bits = 256\nobserve.verify = true\n",
            "observe.min-bits = 256\nobserve.verify = true\nenforce.min-bits = 256\nenforce.verify = true\nenforce.from = 2024-10-05\n",
        ),
        (
            " [rule.observe]\n  min-bits = 256\n",
            " [rule.observe]\n  min-bits = 256\n\n [rule.enforce]\n  min-bits = 256\n  from = 2024-10-05\n",
        ),
    ] {
        assert_eq!(up_with(&format!("{head}{before}"), Enforce, wish), format!("{head}{after}"));
    }
}

#[test]
fn a_step_down_takes_the_harder_modes_out() {
    for (before, to, after) in [
        ("enforce   = { min-bits = 128 }\n", SoftFail, "soft-fail = { min-bits = 128 }\n"),
        (
            "observe = { min-bits = 256 }\nenforce = { min-bits = 128 } # gone\n",
            Observe,
            "observe = { min-bits = 256 }\n# gone\n",
        ),
        (
            "[rule.observe]\nmin-bits = 256\n\n[rule.soft-fail]\nmin-bits = 168\n\n[rule.enforce]\nmin-bits = 128\n\n[reply]\n",
            Observe,
            "[rule.observe]\nmin-bits = 256\n\n[reply]\n",
        ),
        (
            "soft-fail = { min-bits = 168, percent = 9 }\nenforce.min-bits = 128\nenforce.verify = false\n",
            Observe,
            "observe = { min-bits = 168 }\n",
        ),
    ] {
        assert_eq!(down(before, to), after, "{before}");
    }
}

#[test]
fn line_ends_a_byte_order_mark_and_a_last_line_without_an_end_stay() {
    let text = "\u{feff}version = 1\r\n\r\n[[rule]]\r\nname = \"x\"\r\nclient = [\"x.example\"]\r\nobserve.min-bits = 256\r\nenforce.min-bits = 128";
    assert_eq!(
        up_with(text, Enforce, Wish::default()),
        "\u{feff}version = 1\r\n\r\n[[rule]]\r\nname = \"x\"\r\nclient = [\"x.example\"]\r\nenforce.min-bits = 256"
    );
    let wish = Wish { percent: Some(5), ..Wish::default() };
    let text = text.trim_end_matches("\r\nenforce.min-bits = 128");
    assert!(up_with(text, SoftFail, wish).ends_with("\r\nsoft-fail.min-bits = 256\r\nsoft-fail.percent = 5"));
    let last = "version = 1\n[[rule]]\nname = \"x\"\nclient = [\"x.example\"]\nenforce = { min-bits = 128 }\nobserve = { min-bits = 256 }";
    assert!(up_with(last, Enforce, Wish::default()).ends_with("enforce = { min-bits = 256 }"));
}

#[test]
fn the_right_rule_is_changed() {
    let text = "version = 1\n[[rule]]\nname = \"a\"\nserver = [\"a.example\"]\nobserve = { min-bits = 128 }\n[[rule]]\nserver = [\"x.example\"]\nobserve = { require = \"modern\" }\n\"name\" = 'x'\n[[rule]]\nname = \"b\"\nserver = [\"b.example\"]\n[rule.observe]\nmin-bits = 128\n[requirement.modern]\nverify = true\n";
    let out = up_with(text, Enforce, Wish::default());
    assert_eq!(out, text.replace("observe = { require", "enforce = { require"));
    assert!(!has_rule(text, "c") && !has_rule("name = \"x\"\n[[rule]]\n", "x") && !has_rule("rule = ", "x"));
}

#[test]
fn what_cannot_be_changed_is_refused_with_words() {
    let tell = |lines: &str| {
        let text = format!("version = 1\n{lines}\n");
        let step = promote(&rule(&text, "x"), Enforce, Wish::default(), TODAY).unwrap();
        make(&text, "x", &step).unwrap_err().to_string()
    };
    assert_eq!(
        tell("rule = [{ name = \"x\", client = \"x\", observe = { min-bits = 128 } }]"),
        "rule `x` is written within `rule = […]`: write it as [[rule]], then it can be changed"
    );
    let head = "[[rule]]\nname = \"x\"\nclient = \"x\"\n";
    for lines in [
        "soft-fail = {\n  # why\n  min-bits = 128, percent = 25 }",
        "soft-fail = { min-bits = 128, # why\n percent = 25 }",
        "observe = { min-bits = 256 }\nenforce = { min-bits = 128 # why\n }",
        "observe = { min-bits = 256, # why\n }\nenforce = { min-bits = 128 }",
    ] {
        let told = tell(&format!("{head}{lines}"));
        assert!(told.contains("comments within its braces") && told.contains("[rule."), "{told}");
    }
    let none = apply(
        "version = 1\n",
        "x",
        &promote(
            &rule(&format!("version = 1\n{head}observe = {{ verify = true }}\n"), "x"),
            Enforce,
            Wish::default(),
            TODAY,
        )
        .unwrap()
        .step,
    );
    assert_eq!(none, Err(EditError::NoRule("x".into())));
}

/// The fields of one mode.
fn fields(mode: &'static str) -> impl Strategy<Value = Vec<String>> {
    let bits = select(vec!["min-bits = 128", "min-bits=256", "\"min-bits\" = 1_12"]);
    let beside = proptest::sample::subsequence(
        vec![
            "min-version = \"TLSv1.2\"",
            "verify = true",
            "cn = [\n \"a#b\", 'c,d' ]",
            "from = 2020-01-01",
            "from = 2030-01-01",
        ],
        0..4,
    );
    let soft = proptest::sample::subsequence(vec!["percent = 25", "max-delay = \"90m\""], 0..=2);
    (bits, beside, soft).prop_map(move |(bits, beside, soft)| {
        let mut fields: Vec<String> = vec![bits.to_owned()];
        let mut from = false;
        fields.extend(
            beside
                .into_iter()
                .filter(|field| !field.starts_with("from") || !std::mem::replace(&mut from, true))
                .map(str::to_owned),
        );
        if mode == "soft-fail" {
            fields.extend(soft.into_iter().map(str::to_owned));
        }
        fields.rotate_left(1);
        fields
    })
}

/// One mode in one of the three ways, and whether it is a table of its own, which must stand last.
fn mode_text(mode: &'static str) -> impl Strategy<Value = Option<(bool, String)>> {
    let text = (fields(mode), 0..3u8, select(vec!["", " # note", "  # a = { b }"])).prop_map(
        move |(fields, form, note)| match form {
            0 => (false, format!("{mode} = {{ {} }}{note}\n", fields.join(", "))),
            1 => (
                false,
                each_after(
                    "",
                    &fields.iter().map(|field| format!("{mode}.{field}{note}\n")).collect::<Vec<_>>(),
                ),
            ),
            _ => (true, format!("[rule.{mode}]{note}\n# in it\n{}\n", fields.join("\n"))),
        },
    );
    proptest::option::weighted(0.7, text)
}

fn all_comments(text: &str) -> usize {
    ["# note", "# a = { b }", "# in it", "# before", "# between"]
        .iter()
        .map(|comment| text.matches(comment).count())
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_step_in_any_text_changes_the_modes_of_the_rule_and_nothing_else(
        modes in (mode_text("observe"), mode_text("soft-fail"), mode_text("enforce")),
        to in select(vec![Observe, SoftFail, Enforce]),
        lower in any::<bool>(),
        order in 0..6usize,
        crlf in any::<bool>(),
        cut in any::<bool>(),
        from in proptest::option::of(-5..5i64),
    ) {
        let mut parts: Vec<(bool, String)> = [modes.0, modes.1, modes.2].into_iter().flatten().collect();
        prop_assume!(!parts.is_empty());
        let turn = order % parts.len();
        parts.rotate_left(turn);
        parts.sort_by_key(|(table, _)| *table);
        let own: String = parts.into_iter().map(|(_, text)| text).collect();
        let other = "[[rule]]\nname = \"other\"\nserver = [ \"o.example\" ]   # before\nobserve   = {min-bits=128}\n\n";
        let head = format!("version = 1\n# before\n{other}[[rule]]\n  name = \"x\"\nclient = [ \"x.example\", ]\n# between\n");
        let tail = if cut { String::new() } else { other.replace("other", "last").replace("o.ex", "l.ex") };
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = format!("{head}{own}{tail}").replace('\n', end);
        if cut {
            text.truncate(text.trim_end().len());
        }
        let before = rule(&text, "x");
        let wish = Wish { from: from.map(|days| Day(TODAY.0 + days)), ..Wish::default() };
        let step = if lower { demote(&before, to, Wish::default(), TODAY) } else { promote(&before, to, wish, TODAY) };
        let Ok(step) = step else { return Ok(()) };
        let out = make(&text, "x", &step).unwrap();
        let head = head.replace('\n', end);
        let tail = tail.replace('\n', end);
        prop_assert!(out.starts_with(&head) && out.ends_with(&tail), "{out}");
        prop_assert!(all_comments(&out) >= all_comments(&text), "{text}\n=>\n{out}");
        prop_assert_eq!(out.matches('\n').count() == out.matches("\r\n").count(), crlf || !out.contains('\n'));
        prop_assert_eq!(out.ends_with('\n'), text.ends_with('\n'));
    }
}
