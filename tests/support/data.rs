//! The program beside the files in `data/`, and the texts there that it is held to.
//!
//! Promises: what is shown names no folder of this machine. Where a text has changed on purpose,
//! `UPDATE_REFERENCES=1` writes it anew, to be read in the diff.

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file in `data/`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Runs the program there, with this as its standard input.
pub(crate) fn in_data(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(super::daemon::PROGRAM)
        .args(arguments)
        .current_dir(data(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Exit code, standard output, standard error.
pub(crate) fn seen(output: &Output) -> (i32, String, String) {
    (code(output), stdout(output).to_owned(), stderr(output).to_owned())
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

/// The diagnostics of a report tell a script what was shown to a person of this file.
pub(crate) fn tells_what_was_shown(report: &Value, shown: &str, file: &str) {
    let diagnostics = report["diagnostics"].as_array().unwrap();
    assert_eq!(diagnostics.len(), shown.matches(&format!("--> {file}:")).count());
    for diagnostic in diagnostics {
        let text = |name: &str| diagnostic[name].as_str().unwrap_or_default();
        let head = format!("{}[{}]: {}\n", text("severity"), text("code"), text("message"));
        let place = format!("--> {}:{}:{}\n", text("file"), diagnostic["line"], diagnostic["column"]);
        assert!(
            shown.contains(&head) && shown.contains(&place) && shown.contains(text("hint")),
            "{diagnostic}"
        );
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic["severity"] == "error").count();
    assert_eq!(
        (&report["errors"], &report["warnings"]),
        (&json!(errors), &json!(diagnostics.len() - errors)),
        "{file}"
    );
}

/// Compares with a reference text, or writes it.
pub(crate) fn is_as_in(reference: &str, shown: &str) {
    let path = data(reference);
    if std::env::var_os("UPDATE_REFERENCES").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, expected, "not as in {}", path.display());
}
