//! The cases of `integration/cases`, each against a private sm-mta with the real daemon attached, and many against
//! a private Postfix.
//!
//! Runs under plain `cargo test`, as root; `integration/test.sh` gets what is needed first. One case file is one test.
//! Promises: the machine is not touched (see `rig`). Must not skip: what cannot be run has failed.

#![allow(
    clippy::print_stderr,
    reason = "this is how a test program without the standard harness says what is wrong"
)]

mod access_live;
mod costs;
mod doctor;
mod evidence;
mod faults;
mod load;
mod logging;
mod machine;
mod mail_log;
mod metrics;
#[allow(clippy::cast_precision_loss, reason = "figures of a benchmark")]
#[path = "bench/mta/mod.rs"]
mod mta_bench;
mod outbound;
mod postfix;
mod promotion;
mod promptness;
mod report;
mod rig;
mod rulesets;
mod samples;
mod selftest;
mod soak;
mod storm;
mod waiting;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::{fs, thread};

use libtest_mimic::{Arguments, Trial};

use rig::case::play::{play, play_on_postfix};
use rig::case::schema::Case;
use rig::{Result, Rig, namespace};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/cases");
const DAEMON: &str = env!("CARGO_BIN_EXE_encr-milter");

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A case mostly waits, for processes to start and to end.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * cores);
    match tests(&arguments) {
        Ok(tests) => libtest_mimic::run(&arguments, tests).exit_code(),
        Err(fault) => {
            eprintln!("integration tests cannot run: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn tests(arguments: &Arguments) -> Result<Vec<Trial>> {
    // Naming the tests needs no rig.
    let rig = if arguments.list {
        None
    } else if namespace::is_inside() {
        Some(Arc::new(Rig::new(Path::new(DAEMON))?))
    } else {
        match namespace::enter()? {}
    };
    let mut of_cases = Vec::new();
    for file in case_files()? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // A file that is none fails by itself, in its own trial.
        let postfix = case(&file).ok().and_then(|case| case.postfix);
        let on_sendmail = postfix.as_ref().is_none_or(|postfix| !postfix.only);
        let played = [on_sendmail.then_some(false), postfix.map(|_| true)];
        for on_postfix in played.into_iter().flatten() {
            let (rig, file) = (rig.clone(), file.clone());
            let name = if on_postfix { format!("postfix-{name}") } else { name.clone() };
            let tag = name.clone();
            of_cases
                .push(Trial::test(name, move || Ok(run(present(rig.as_deref())?, &tag, &file, on_postfix)?)));
        }
    }
    // What cannot be said as steps and replies is told in Rust.
    let mut of_rust = selftest::all();
    of_rust.push(("storm-of-edits".to_owned(), Box::new(storm::storm)));
    of_rust.push(("sample-passing".to_owned(), Box::new(samples::passing)));
    of_rust.push(("sample-deferring".to_owned(), Box::new(samples::deferring)));
    of_rust.push(("tcp-is-prompt".to_owned(), Box::new(promptness::promptness)));
    of_rust.push(("bench-mta".to_owned(), Box::new(costs::every_answer)));
    of_rust.push(("prometheus".to_owned(), Box::new(metrics::scraped)));
    of_rust.push(("report-page".to_owned(), Box::new(report::pages)));
    of_rust.push(("max-delay".to_owned(), Box::new(waiting::max_delay)));
    of_rust.push(("promotion".to_owned(), Box::new(promotion::promotion)));
    of_rust.push(("evidence-full-disk".to_owned(), Box::new(evidence::full_disk)));
    of_rust.push(("access-map-live".to_owned(), Box::new(access_live::same_outcomes)));
    of_rust.push(("soak".to_owned(), Box::new(soak::soak)));
    of_rust.push(("rulesets-odd".to_owned(), Box::new(rulesets::odd_rules)));
    of_rust.push(("rulesets-client".to_owned(), Box::new(rulesets::client)));
    of_rust.push(("rulesets-server".to_owned(), Box::new(rulesets::server)));
    of_rust.push(("rulesets-rcpt".to_owned(), Box::new(rulesets::rcpt)));
    of_rust.push(("rulesets-perm-err".to_owned(), Box::new(rulesets::perm_err)));
    of_rust.push(("rulesets-round-trip".to_owned(), Box::new(rulesets::round_trip)));
    let by_name = outbound::ALL.iter().chain(mail_log::ALL).chain(logging::ALL).chain(postfix::ALL);
    let by_name = by_name.chain(faults::ALL).chain(doctor::ALL).chain(machine::ALL);
    of_rust.extend(by_name.map(|(name, test)| ((*name).to_owned(), Box::new(*test) as selftest::Test)));
    let of_rust = of_rust.into_iter().map(|(name, test)| {
        let rig = rig.clone();
        Trial::test(name, move || Ok(test(present(rig.as_deref())?)?))
    });
    Ok(of_cases.into_iter().chain(of_rust).collect())
}

fn case_files() -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| format!("{CASES}: {e}");
    let mut files = Vec::new();
    for entry in fs::read_dir(CASES).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(format!("{}: no case file", path.display()));
        }
        files.push(path);
    }
    files.sort();
    if files.is_empty() { Err(format!("{CASES}: no cases")) } else { Ok(files) }
}

/// A test that was only to be listed is not run.
fn present(rig: Option<&Rig>) -> Result<&Rig> {
    rig.ok_or_else(|| "no rig: tests were only to be listed".to_owned())
}

fn case(file: &Path) -> Result<Case> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Case::parse(&text).map_err(|e| format!("{}: {e}", file.display()))
}

fn run(rig: &Rig, tag: &str, file: &Path, on_postfix: bool) -> Result<()> {
    let case = case(file)?;
    let played = if on_postfix { play_on_postfix(rig, tag, case) } else { play(rig, tag, &case) };
    played.map_err(|fault| format!("{}: {fault}", file.display()))
}
