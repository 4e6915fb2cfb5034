//! The house rules that a compiler does not know: which way dependencies point, what the pure part may not
//! touch, and that every file says what it is for.
//!
//! Promises: reads the source as text, comments left out; a rule that is broken is told with file and line.
//!
//! Must not: be quietened by an exception in here. Where building shows a rule to be wrong, the design says
//! so first.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module at the top may use of the others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("diagnostics", &[]),
    ("database", &[]),
    ("policy_file", &["policy", "diagnostics"]),
    ("sendmail", &["policy", "diagnostics"]),
    ("snapshot", &["policy"]),
    ("replay", &["policy", "sendmail"]),
    ("simulation", &["policy"]),
    ("evidence", &["policy", "database"]),
    ("report", &["policy", "evidence"]),
    ("waiting", &["policy", "database"]),
    ("listener", &[]),
    ("http", &["listener"]),
    ("probe", &["policy"]),
    ("telemetry", &["policy"]),
    ("environment", &["policy"]),
    ("milter", &["policy", "listener", "environment"]),
    ("outbound", &["policy", "listener", "environment", "sendmail"]),
    ("daemon_file", &["listener", "policy_file", "telemetry", "policy", "diagnostics", "evidence"]),
    ("systemd", &[]),
    ("reload", &["daemon_file", "policy", "policy_file", "snapshot", "telemetry", "diagnostics", "systemd"]),
    ("control", &["http", "listener", "reload"]),
    (
        "doctor",
        &[
            "policy",
            "diagnostics",
            "policy_file",
            "sendmail",
            "listener",
            "probe",
            "daemon_file",
            "control",
            "http",
        ],
    ),
    (
        "service",
        &[
            "policy",
            "policy_file",
            "snapshot",
            "listener",
            "http",
            "telemetry",
            "environment",
            "milter",
            "outbound",
            "daemon_file",
            "reload",
            "systemd",
            "control",
            "evidence",
            "waiting",
        ],
    ),
    (
        "cli",
        &[
            "policy",
            "diagnostics",
            "database",
            "policy_file",
            "sendmail",
            "snapshot",
            "listener",
            "http",
            "telemetry",
            "milter",
            "daemon_file",
            "reload",
            "control",
            "service",
            "replay",
            "simulation",
            "evidence",
            "report",
            "probe",
            "doctor",
        ],
    ),
    ("main", &["cli"]),
];

/// A file is to be read in a sitting.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, by its path from the root.
fn files(folder: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(root()).unwrap().to_path_buf(), text);
            }
        }
    }
    assert!(!found.is_empty(), "no files in {folder}");
    found
}

/// The module at the top that a file of src/ belongs to.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// A file's lines without their comments, numbered from 1. Enough for this source: a `//` within a string
/// cuts the string, which hides nothing that is looked for here.
fn code(text: &str) -> Vec<(usize, &str)> {
    let lines =
        text.lines().enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()));
    lines.filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// Where `word` stands in the code as a word of its own, or the beginning of a path.
fn uses(text: &str, word: &str) -> Vec<usize> {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let is_whole = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let begins = before.is_none_or(|c| !part_of_name(c));
        let ends = !word.ends_with(part_of_name) || after.is_none_or(|c| !part_of_name(c));
        begins && ends
    };
    code(text)
        .into_iter()
        .filter(|(_, line)| line.match_indices(word).any(|(at, _)| is_whole(line, at)))
        .map(|(number, _)| number)
        .collect()
}

/// The modules at the top that a text names: `crate::x`, `crate::{x, y}`, and `super::` up to the top.
fn named_modules(text: &str, krate: &str) -> BTreeSet<String> {
    let code = code(text).into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let identifier =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for (at, path) in code.match_indices(krate) {
        // `pub(crate)` has no `::`; `my_crate::` is another name.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + path.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(identifier(item.trim()));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            found.insert(identifier(item.trim()));
        } else {
            found.insert(identifier(rest));
        }
    }
    for (module, _) in ALLOWED {
        // `super::` cannot be told from `crate::` by its looks, so it must not lead to a name of the top.
        if code.contains(&format!("super::{module}::")) || code.contains(&format!("super::{module};")) {
            found.insert((*module).to_owned());
        }
    }
    found.remove("");
    found
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (path, text) in files("src") {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            wrong.push(format!("{}: a module that the list of this test does not know", path.display()));
            continue;
        };
        let krate = if module == "main" { "encr_milter::" } else { "crate::" };
        for named in named_modules(&text, krate) {
            // What is no module at the top is an item of the crate's root, and there is none.
            if named != module && !may.contains(&named.as_str()) {
                wrong.push(format!("{}: {module} uses {named}", path.display()));
            }
            seen.insert((module.clone(), named));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The reading works: these are there for sure.
    for (user, used) in [
        ("main", "cli"),
        ("cli", "service"),
        ("service", "milter"),
        ("milter", "policy"),
        ("policy_file", "policy"),
    ] {
        assert!(
            seen.contains(&(user.to_owned(), used.to_owned())),
            "{user} does not seem to use {used}: {seen:?}"
        );
    }
    // And the list itself points one way: who may be used stands before whom it is used by.
    for (position, (module, may)) in ALLOWED.iter().enumerate() {
        for used in *may {
            let place = ALLOWED.iter().position(|(other, _)| other == used).expect("a module of the list");
            assert!(place < position, "{module} may use {used}");
        }
    }
}

#[test]
fn the_reading_of_paths_is_right() {
    let text = "use crate::a::{b, c};\nuse crate::{d::e, f::{g, h}, i};\n// crate::no\nlet x = crate::j::k();\npub(crate) fn y() {}\nmy_crate::no::z();\nuse super::super::policy::Day;\n";
    let found: Vec<String> = named_modules(text, "crate::").into_iter().collect();
    assert_eq!(found, ["a", "d", "f", "i", "j", "policy"]);
    assert_eq!(uses("let tokio = 1; // tracing\ntokio::spawn(); tokio_util::x();", "tokio"), [1, 2]);
    assert_eq!(uses("tokio_util::x(); // tokio", "tokio"), [] as [usize; 0]);
}

#[test]
fn the_policy_is_pure() {
    let forbidden = [
        // Files, sockets, processes, threads, the surroundings.
        "std::fs",
        "std::env",
        "std::process",
        "std::thread",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "std::os",
        "File",
        // Clocks.
        "std::time",
        "Instant",
        "SystemTime",
        "Timestamp::now",
        "Zoned::now",
        // Logs.
        "tracing",
        "println!",
        "eprintln!",
        "print!",
        "eprint!",
        "dbg!",
        // Other layers' libraries.
        "tokio",
        "indymilter",
        "notify",
        "nix",
        "socket2",
        "toml",
        "clap",
        "annotate_snippets",
        // Chance, and what is shared between threads.
        "RandomState",
        "HashMap",
        "Mutex",
        "RwLock",
        "static mut",
        "LazyLock",
        "OnceLock",
        "thread_local!",
    ];
    for (path, text) in files("src/policy") {
        for word in forbidden {
            let lines = uses(&text, word);
            assert!(lines.is_empty(), "{}: {word} at lines {lines:?}", path.display());
        }
    }
}

#[test]
fn only_one_file_knows_the_names_of_macros() {
    let names = [
        "{client_",
        "{tls_version",
        "{cipher",
        "{verify",
        "{cn_",
        "{cert_",
        "{auth_",
        "{daemon_",
        "{if_",
        "{mail_",
        "{rcpt_",
    ];
    let quoted = |text: &str| -> Vec<usize> {
        code(text)
            .into_iter()
            .filter(|(_, line)| names.iter().any(|name| line.contains(&format!("\"{name}"))))
            .map(|(number, _)| number)
            .collect()
    };
    for (path, text) in files("src/milter") {
        let found = quoted(&text);
        assert_eq!(found.is_empty(), !path.ends_with("macros.rs"), "{}: lines {found:?}", path.display());
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_read_in_a_sitting() {
    for (path, text) in files("src").into_iter().chain(files("tests")) {
        assert!(text.starts_with("//! "), "{} does not begin with what it is for", path.display());
        let lines = text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines; {MAX_LINES} are read in a sitting",
            path.display()
        );
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut in_dependencies = false;
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && line.contains('=') {
            let (_, comment) = line.split_once('#').unwrap_or((line, ""));
            assert!(comment.trim().len() > 5, "why is this here? {line}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} dependencies were seen");
}

/// Each crate of a lock, with its versions.
fn locked(path: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lock: toml::Table = fs::read_to_string(root().join(path)).unwrap().parse().unwrap();
    let mut crates: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let field = |name: &str| package[name].as_str().unwrap().to_owned();
        crates.entry(field("name")).or_default().insert(field("version"));
    }
    crates
}

#[test]
fn what_is_fuzzed_is_made_of_what_is_shipped() {
    let (shipped, fuzzed) = (locked("Cargo.lock"), locked("integration/fuzz/Cargo.lock"));
    let mut both = 0;
    for (name, versions) in fuzzed {
        let Some(known) = shipped.get(&name) else { continue };
        assert!(
            versions.is_subset(known),
            "{name} is fuzzed as {versions:?}, shipped as {known:?}: cp Cargo.lock integration/fuzz/ && \
             cargo metadata --manifest-path integration/fuzz/Cargo.toml"
        );
        both += 1;
    }
    assert!(both > 100, "only {both} crates are in both");
}

#[test]
fn nothing_is_unsafe_and_no_lint_is_switched_off_in_the_source() {
    for (path, text) in files("src") {
        for word in ["unsafe", "#![allow", "#[allow"] {
            assert!(uses(&text, word).is_empty(), "{}: {word}", path.display());
        }
    }
}
