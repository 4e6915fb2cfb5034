//! The manual and the completions of docs/: what is committed is current, whole and well-formed.
//!
//! Promises: pages of section 8 and completions are what the definitions make (`UPDATE_REFERENCES=1` writes them anew);
//! pages of section 5 name every field that the program knows and no other; all are without a fault for mandoc and
//! man; the completions work in a real bash, zsh and fish.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../integration/manual/pages.rs"]
mod pages;

use encr_milter::{cli, daemon_file, policy_file};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn source(name: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: impl AsRef<Path>) -> String {
    let path = source(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every page, those that are written by hand among them.
fn manual() -> Vec<PathBuf> {
    let pages = fs::read_dir(source("docs/man")).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<_> = pages.collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

#[test]
fn what_is_made_from_the_definitions_is_current() {
    let made = pages::all().unwrap();
    let update = std::env::var_os("UPDATE_REFERENCES").is_some();
    let names: BTreeSet<_> = made.iter().map(|(path, _)| source(path)).collect();
    for (path, expected) in &made {
        if update {
            fs::write(source(path), expected).unwrap();
        }
        let committed = fs::read_to_string(source(path)).unwrap_or_default();
        assert!(
            committed == *expected,
            "{} is not current: cargo run --example manual, and read the diff",
            path.display()
        );
    }
    let of_no_command = manual().into_iter().filter(|page| page.extension().unwrap() == "8");
    let of_no_command: Vec<_> = of_no_command.filter(|page| !names.contains(page)).collect();
    assert!(of_no_command.is_empty(), "of no command (any more): {of_no_command:?}");
}

#[test]
fn every_exit_code_is_told() {
    // All constants are in the list that --help and the page are made from.
    let code = text("src/cli/mod.rs");
    assert_eq!(code.matches("    pub(crate) const ").count(), cli::exit::ALL.len());
    let page = text("docs/man/encr-milter.8");
    let told = between(&page, ".SH EXIT STATUS\n", ".SH ");
    let told: Vec<u8> =
        told.lines().filter_map(|line| line.strip_prefix(".B ")).map(|code| code.parse().unwrap()).collect();
    assert_eq!(told, cli::exit::ALL.map(|(code, _)| code));
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?}"));
    rest.split_once(end).map_or(rest, |(body, _)| body)
}

/// The fields that a page of section 5 names, by the heading that they stand under.
fn fields(page: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut heading = String::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix(".Ss ").or_else(|| line.strip_prefix(".Sh ")) {
            title.clone_into(&mut heading);
        } else if let Some(item) = line.strip_prefix(".It Ic ") {
            let name = item.split(' ').next().unwrap().to_owned();
            found.entry(heading.clone()).or_default().push(name);
        }
    }
    found
}

/// Holds a page to tables and their fields, where a table's heading may differ from its name.
fn names_all(page: &str, tables: &[(&str, &[&str])], headings: &[(&str, &str)]) {
    let mut found = fields(&text(page));
    for (table, known) in tables {
        let heading = headings.iter().find(|(name, _)| name == table);
        let heading = heading.map_or_else(|| format!("Table {table}"), |(_, heading)| (*heading).to_owned());
        let named = found.remove(&heading).unwrap_or_else(|| panic!("{page}: no {heading:?}"));
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let unique: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        assert_eq!(unique.len(), named.len(), "{page}: {heading}: a field is there twice");
        assert_eq!(unique, known, "{page}: {heading}");
    }
    assert_eq!(found, BTreeMap::new(), "{page}: fields of no table");
}

#[test]
fn every_field_of_the_policy_is_in_its_page_and_no_other() {
    let requirement = policy_file::TABLES.iter().find(|(table, _)| *table == "requirement").unwrap().1;
    // A mode's demands are told once, where requirements are.
    let tables: Vec<(&str, Vec<&str>)> = policy_file::TABLES
        .iter()
        .map(|(table, fields)| {
            let own = |field: &&str| *table != "rule.MODE" || !requirement.contains(field);
            (*table, fields.iter().copied().filter(own).collect())
        })
        .collect();
    let tables: Vec<(&str, &[&str])> =
        tables.iter().map(|(table, fields)| (*table, fields.as_slice())).collect();
    let headings = [
        ("", "The file itself"),
        ("requirement", "Table requirement.NAME"),
        ("rule.exempt", "Exemptions"),
        ("rule.MODE", "Modes"),
    ];
    names_all("docs/man/encr-milter-policy.5", &tables, &headings);
}

#[test]
fn every_setting_of_the_daemon_is_in_its_page_and_no_other() {
    // The lists that the reader goes by are all in the one that this test goes by.
    let (_, top) = daemon_file::TABLES.first().unwrap();
    let tables: BTreeSet<&str> = daemon_file::TABLES.iter().map(|(table, _)| *table).collect();
    let expected: BTreeSet<&str> =
        top.iter().map(|name| if *name == "version" { "" } else { *name }).collect();
    assert_eq!(tables, expected);
    names_all("docs/man/encr-milter.toml.5", daemon_file::TABLES, &[("", "The file itself")]);
}

/// The examples of the pages are sound.
#[test]
fn the_examples_of_the_pages_are_sound() {
    for (page, flag) in
        [("docs/man/encr-milter-policy.5", "--policy"), ("docs/man/encr-milter.toml.5", "--config")]
    {
        let page = text(page);
        let example = between(&page, ".Bd -literal -offset indent\n", ".Ed\n");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("partners")).unwrap();
        for name in ["policy.toml", "partners/one.toml"] {
            fs::write(folder.path().join(name), "version = 1\n").unwrap();
        }
        let file = folder.path().join("example.toml");
        fs::write(&file, example).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_encr-milter"))
            .arg("check")
            .arg(flag)
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs a tool that setup.sh installs.
fn tool(command: &mut Command, input: &str) -> [String; 2] {
    let name = command.get_program().display().to_string();
    let missing = |e| panic!("{name}: {e}; integration/setup.sh installs it");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(missing);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn mandoc_and_man_have_nothing_to_remark() {
    for page in manual() {
        let [_, said] = tool(Command::new("mandoc").args(["-T", "lint"]).arg(&page), "");
        let remarks: Vec<&str> = said
            .lines()
            // It looks for other pages where they are installed. Ours stand beside this one.
            .filter(|line| {
                let (_, reference) =
                    line.split_once("referenced manual not found: Xr ").unwrap_or(("", "none none"));
                let mut words = reference.split(' ');
                let name = format!("docs/man/{}.{}", words.next().unwrap(), words.next().unwrap());
                !source(name).exists()
            })
            .collect();
        assert!(remarks.is_empty(), "{}: {remarks:#?}", page.display());
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&page).env("LC_ALL", "C.UTF-8");
        let [shown, said] = tool(&mut man, "");
        assert!(said.is_empty() && shown.contains("SEE ALSO"), "{}: {said}", page.display());
    }
}

/// Types lines into an interactive shell on a terminal of its own. There a function has the program's name, and says
/// with which arguments it was called.
fn typed(shell: &str, lines: &str) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--echo", "never", "--command", shell, "/dev/null"]);
    command.env("TERM", "dumb").env("LC_ALL", "C.UTF-8").current_dir(source(""));
    tool(&mut command, lines).concat()
}

/// What is typed behind the program's name, and the arguments that it is called with.
const COMPLETED: &[(&str, &str)] = &[
    ("promo\tpartner --to so\t", "promote,partner,--to,soft-fail,"),
    ("access l\tconfig/pol\t", "access,lint,config/policy.toml,"),
    ("check --policy config/pol\t", "check,--policy,config/policy.toml,"),
    ("simulate --fail-on tempf\t", "simulate,--fail-on,tempfail,"),
];

fn completes(shell: &str, begin: &str) {
    let lines =
        COMPLETED.iter().map(|(typed, _)| format!("encr-milter {typed}\n")).collect::<Vec<_>>().concat();
    let said = typed(shell, &format!("{begin}\n{lines}exit\n"));
    for (typed, arguments) in COMPLETED {
        assert!(said.contains(&format!("called with {arguments}")), "{typed:?} in {shell}:\n{said}");
    }
}

#[test]
fn the_completion_works_in_bash() {
    completes(
        "bash --norc --noprofile -i",
        "encr-milter() { printf 'called %s ' with; printf '%s,' \"$@\"; echo; }; source docs/completions/encr-milter.bash",
    );
}

#[test]
fn the_completion_works_in_zsh() {
    completes(
        "zsh -f -i",
        "encr-milter() { printf 'called %s ' with; printf '%s,' \"$@\"; echo; }; \
         fpath=($PWD/docs/completions $fpath); autoload -Uz compinit; compinit -u -D",
    );
}

#[test]
fn the_completion_works_in_fish() {
    let script = source("docs/completions/encr-milter.fish");
    let home = tempfile::tempdir().unwrap();
    let asked = |line: &str| {
        let code = format!("source {}; complete --do-complete '{line}'", script.display());
        let mut fish = Command::new("fish");
        let [said, _] = tool(
            fish.args(["--no-config", "-c", &code]).env("HOME", home.path()).current_dir(source("")),
            "",
        );
        let names = said.lines().map(|line| line.split('\t').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(asked("encr-milter promo"), ["promote"]);
    assert_eq!(asked("encr-milter promote partner --to "), ["enforce", "soft-fail"]);
    assert_eq!(asked("encr-milter check --policy config/pol"), ["config/policy.toml"]);
}
