//! The threat model names, for each thing that cannot be done, the test that shows it: those tests are there.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model() -> String {
    fs::read_to_string(root().join("docs/threat-model.md")).unwrap()
}

/// The words behind `fuzz`, each a target.
fn targets_named(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = words.windows(2).filter(|pair| pair[0] == "fuzz").map(|pair| pair[1]);
    after.map(|name| name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()).collect()
}

#[test]
fn every_test_that_it_names_is_there() {
    let text = model();
    let mut named = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((file, name)) = quoted.split_once("::").filter(|(file, _)| file.contains(".rs")) else {
            continue;
        };
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let signature = format!("fn {name}(");
        let at = source.find(&signature).unwrap_or_else(|| panic!("{file} has no test {name}"));
        // An attribute stands before it, or it is one of a `proptest!`.
        let before = source[..at].trim_end();
        let is_test =
            before.ends_with("#[test]") || before.ends_with("async") || before.ends_with("#[tokio::test]");
        assert!(is_test, "{file}: {name} is no test, but behind {:?}", before.lines().last());
        named += 1;
    }
    assert!(named > 30, "only {named} tests were seen");
}

#[test]
fn every_fuzz_target_shows_something_and_is_there() {
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(root().join("integration/fuzz/fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        there.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(targets_named(&model()), there);
    let manifest: toml::Table =
        fs::read_to_string(root().join("integration/fuzz/Cargo.toml")).unwrap().parse().unwrap();
    let built = manifest["bin"].as_array().unwrap().iter();
    let built: BTreeSet<String> = built.map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(built, there);
    for target in there {
        let seeds = root().join("integration/fuzz/seeds").join(&target);
        assert!(seeds.is_dir(), "{target} begins with nothing");
    }
}
