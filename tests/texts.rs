//! Any text is survived: as a policy, by the compiler and its diagnostics; as a value, by the log's two forms.
//!
//! Promises: the cases are bounded, so that all of it runs in seconds. A failure prints the smallest case
//! that shows it; nothing is written into the source tree.
//!
//! Must not: care what the diagnostics say, but that there are some where there is no policy. Their words
//! stand in `cli.rs`.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::policy::record::{Record, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use support::load_text;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn line(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

/// A policy with everything in it, to be damaged.
const WHOLE: &str = include_str!("data/whole.toml");

/// All that is done with a policy's text must not panic; and it is either taken or told of.
fn survives(text: &[u8]) -> Result<(), TestCaseError> {
    let loaded = load_text(text);
    prop_assert_eq!(loaded.policy.is_none(), loaded.diagnostics.has_errors());
    let plain = loaded.diagnostics.render(&loaded.sources, false);
    let coloured = loaded.diagnostics.render(&loaded.sources, true);
    let shown = loaded.diagnostics.iter().count();
    prop_assert_eq!(plain.is_empty(), shown == 0);
    prop_assert!(coloured.len() >= plain.len());
    let lines: Vec<_> = loaded.diagnostics.lines(&loaded.sources).collect();
    prop_assert_eq!(lines.len(), shown);
    let records = serde_json::to_value(loaded.diagnostics.records(&loaded.sources)).unwrap();
    prop_assert_eq!(records.as_array().unwrap().len(), shown);
    Ok(())
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn any_bytes_as_a_policy_are_taken_or_told_of(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes)?;
    }

    #[test]
    fn any_damage_to_a_policy_is_taken_or_told_of(
        damage in vec((any::<Pick>(), 0usize..40, prop_oneof![
            2 => Just(String::new()),
            2 => ".{0,6}",
            1 => "\\PC{0,6}",
            2 => select(vec!["[[rule]]\n", "\"", "'''", "{", "}", "[", "]", "=", "\n", "\r", "\0", "\u{fe0f}\u{202e}", "1979-05-27", "-1", "1e400", "*", "@", "\t"]).prop_map(str::to_owned),
        ]), 1..6),
    ) {
        let mut text = WHOLE.to_owned();
        for (at, removed, inserted) in damage {
            let start = text.floor_char_boundary(at.index(text.len().max(1)));
            let end = text.floor_char_boundary((start + removed).min(text.len()));
            text.replace_range(start..end, &inserted);
        }
        survives(text.as_bytes())?;
    }

    #[test]
    fn any_text_is_one_value_of_one_line(text in prop_oneof![
        ".*",
        "\\PC*",
        "[\\x00-\\x7f]{0,40}",
        vec(select("\"\\,= \n\r\t\u{85}\u{2028}\u{202e}\u{feff}u{}a\0\u{1f600}".chars().collect::<Vec<_>>()), 0..20)
            .prop_map(String::from_iter),
    ]) {
        let shown = Value(&text).to_string();
        prop_assert!(!shown.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{shown:?}");
        prop_assert_eq!(unquoted(&shown), &*text);

        let record = Record { sender: Some(text.as_str().into()), queue_id: Some(text.as_str().into()), ..Record::default() };
        let json = line(&record);
        let body = json.strip_suffix('\n').unwrap();
        prop_assert!(!body.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{json:?}");
        prop_assert_eq!(&serde_json::from_str::<Record<'_>>(body).unwrap(), &record);
        // In the text form no value can pretend to be another field: the quotes around it are its own.
        let shown = record.to_string();
        let expected = format!("{}: sender={}", Value(&text), Value(&text));
        if !text.is_empty() {
            prop_assert_eq!(shown, expected);
        }
    }
}

/// Reads a value of a `key=value` line back. Fails where something of it would end the value before its end.
fn unquoted(shown: &str) -> String {
    let Some(inner) = shown.strip_prefix('"') else {
        assert!(!shown.is_empty() && !shown.contains([' ', ',', '=', '"']), "{shown:?}");
        return shown.to_owned();
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next().expect("no closing quote") {
            '"' => break,
            '\\' => match chars.next().unwrap() {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'u' => {
                    let hex: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    out.push(char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap());
                }
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
    assert_eq!(chars.next(), None, "something stands behind the closing quote: {shown:?}");
    out
}
