//! docs/reference.md against the code: every code, field and exit code is explained, and no other.
//!
//! Promises: reads the source as text where the names are literals, and asks the program where it can tell.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use encr_milter::policy::record::Record;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first cells of the tables between two headings, names in backticks taken out of them.
fn documented(from: &str, to: Option<&str>) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let (_, after) = page.split_once(&format!("\n{from}\n")).expect(from);
    let part = to.map_or(after, |to| after.split_once(&format!("\n{to}\n")).expect(to).0);
    let rows = part.lines().filter_map(|line| line.strip_prefix("| "));
    rows.flat_map(|row| {
        let first = row.split(" |").next().unwrap();
        first.split(", ").map(|name| name.trim_matches('`').to_owned()).collect::<Vec<_>>()
    })
    .filter(|name| !["code", "field"].contains(&name.as_str()) && !name.starts_with("---"))
    .collect()
}

fn set(names: Vec<String>) -> BTreeSet<String> {
    let count = names.len();
    let set: BTreeSet<String> = names.into_iter().collect();
    assert_eq!(set.len(), count, "something is explained twice");
    set
}

/// The program's source without its tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                found.push((path, text));
            }
        }
    }
    found
}

/// The codes that the source gives to diagnostics: the first argument wherever one is made. Where that is no
/// literal, it is one of those that `elsewhere` finds in the same file.
fn codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (path, text) in sources() {
        if !text.contains("Diagnostic::") {
            continue;
        }
        let makers = ["Diagnostic::error(", "Diagnostic::warning(", "self.warn(", "self.error("];
        for maker in makers {
            for (at, _) in text.match_indices(maker) {
                let argument = text[at + maker.len()..].trim_start();
                if let Some(literal) = argument.strip_prefix('"') {
                    codes.insert(literal.split('"').next().unwrap().to_owned());
                } else {
                    let name = argument.split([',', ')']).next().unwrap();
                    assert_eq!(name, "code", "{}: a code that this test cannot see", path.display());
                    codes.extend(chosen(&text));
                }
            }
        }
    }
    codes
}

/// `let code = if … { "differs" } else { "inexact" };`
fn chosen(text: &str) -> Vec<String> {
    let choices = text.match_indices("let code = ").map(|(at, _)| text[at..].split(';').next().unwrap());
    choices
        .flat_map(|choice| choice.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_diagnostic_code_is_explained() {
    assert_eq!(set(documented("## Diagnostic codes", Some("## Exit codes"))), codes());
}

#[test]
fn every_field_of_a_record_is_explained() {
    let all = r#"{"ts":"2026-11-22T02:07:29Z","host":"a","queue_id":"a","direction":"inbound","client_name":"a","client_addr":"a",
        "client_resolve":"a","server_name":"a","server_addr":"a","sender":"a","recipient":"a","auth":"a","tls_version":"a","cipher":"a",
        "cipher_bits":1,"auth_ssf":1,"verify":"a","cn_subject":"a","cert_subject":"a","cert_issuer":"a","waited":1,"verdict":"fail",
        "mode":"observe","disposition":"accept","rule":"a","side":"client","key":"a","reason":"a","reply":"a",
        "failures":[{"rule":"a","side":"client","key":"a","mode":"observe","reason":"a"}],"policy":"a"}"#;
    let record: Record<'_> = serde_json::from_str(all).unwrap();
    // None of the fields is at its default: what `Debug` shows has them all, so that one that is new is missed.
    let shown = format!("{record:#?}");
    let fields: BTreeSet<String> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("    ").filter(|line| !line.starts_with(' '))?.split_once(": "))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(set(documented("## Fields of a decision record", Some("## Metrics"))), fields);
}

#[test]
fn every_exit_code_is_explained() {
    let (_, text) =
        sources().into_iter().find(|(path, _)| path.ends_with("cli/mod.rs")).expect("the commands");
    let codes: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(crate) const ")?.split_once(": u8 = "))
        .map(|(_, code)| code.trim_end_matches(';').to_owned())
        .collect();
    assert!(codes.len() > 5);
    assert_eq!(set(documented("## Exit codes", None)), codes);
}
