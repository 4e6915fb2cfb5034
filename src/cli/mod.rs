//! The commands: arguments to an exit code. One file per command.

mod access;
mod change;
mod check;
mod demote;
mod doctor;
mod evidence;
mod explain;
mod file;
mod installation;
mod policies;
mod probe;
mod promote;
mod reload;
mod replaying;
mod report;
mod run;
mod running;
mod simulate;
mod status;

use crate::policy::Day;
use clap::{CommandFactory, Parser, Subcommand, ValueHint};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// sysexits(3): what scripts and systemd can tell apart.
pub mod exit {
    pub(crate) const OK: u8 = 0;
    /// None of sysexits': a question was answered, and the answer is no.
    pub(crate) const GATE: u8 = 1;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const DATA: u8 = 65;
    pub(crate) const NO_INPUT: u8 = 66;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const SOFTWARE: u8 = 70;
    pub(crate) const OS: u8 = 71;
    pub(crate) const CANT_CREATE: u8 = 73;
    pub(crate) const IO: u8 = 74;
    pub(crate) const TEMP_FAIL: u8 = 75;
    pub(crate) const PROTOCOL: u8 = 76;
    pub(crate) const NO_PERMISSION: u8 = 77;
    pub(crate) const CONFIG: u8 = 78;

    /// All of them, and what each says: `--help` and the manual tell them from here.
    pub const ALL: [(u8, &str); 14] = [
        (OK, "all is well"),
        (GATE, "a gate is shut"),
        (USAGE, "wrong arguments"),
        (DATA, "bad input"),
        (NO_INPUT, "no input"),
        (UNAVAILABLE, "a socket is taken, or nobody answers"),
        (SOFTWARE, "a fault of the program"),
        (OS, "the system refused"),
        (CANT_CREATE, "a file cannot be made"),
        (IO, "output failed"),
        (TEMP_FAIL, "try again"),
        (PROTOCOL, "a server breaks the protocol"),
        (NO_PERMISSION, "no permission"),
        (CONFIG, "a file of the configuration is wrong"),
    ];
}

const EXAMPLES: &str = "\
Begin:
  encr-milter check --policy policy.toml             is the policy sound?
  encr-milter explain --policy policy.toml \\
      --client-name mx.partner.example --tls-version TLSv1.2 --cipher-bits 128
                                                     what would be decided, and why?
  encr-milter simulate --policy policy.toml /var/log/mail.log*
                                                     what would it have changed?
  encr-milter report /var/log/mail.log*              who encrypts how, and who would break?
  encr-milter run -c /etc/encr-milter/encr-milter.toml
                                                     the daemon, for sendmail's INPUT_MAIL_FILTER
  encr-milter status                                 how does it do?";

fn after_help() -> String {
    let codes = exit::ALL.map(|(code, says)| format!("{code} {says}")).join(", ");
    format!("{EXAMPLES}\n\nExit codes are those of sysexits(3): {codes}.")
}

/// Enforces minimum TLS strength per domain in front of sendmail, and lets a rule ripen from observe over
/// soft-fail to enforce.
#[derive(Debug, Parser)]
#[command(name = "encr-milter", version, after_help = after_help(), max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Reload(reload::Arguments),
    Status(status::Arguments),
    Check(check::Arguments),
    Explain(Box<explain::Arguments>),
    Access(access::Arguments),
    Simulate(simulate::Arguments),
    Report(report::Arguments),
    Evidence(evidence::Arguments),
    Promote(promote::Arguments),
    Demote(demote::Arguments),
    Probe(Box<probe::Arguments>),
    Doctor(doctor::Arguments),
}

/// The commands as they are parsed: what the manual and the completions of shells are made from.
///
/// A value that is a path completes to files, any other that is not one of a list to nothing.
pub fn definitions() -> clap::Command {
    fn with_hints(command: clap::Command) -> clap::Command {
        let hinted = |arg: clap::Arg| match arg.get_value_hint() {
            ValueHint::AnyPath => arg.value_hint(ValueHint::FilePath),
            ValueHint::Unknown if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
            _ => arg,
        };
        command.mut_args(hinted).mut_subcommands(with_hints)
    }
    with_hints(Arguments::command())
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is whoever closed it's business.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let result = match arguments.command {
        Command::Run(arguments) => Ok(run::run(&arguments)),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Access(arguments) => access::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Evidence(arguments) => evidence::run(&arguments),
        Command::Promote(arguments) => promote::run(&arguments),
        Command::Demote(arguments) => demote::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        // `encr-milter explain … | head`: the reader has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(exit::OK),
        Err(error) => {
            complain(&format!("cannot write the output: {error}"));
            ExitCode::from(exit::IO)
        }
    }
}

/// The day it is, in UTC.
fn today() -> Day {
    Day::of_unix_seconds(jiff::Timestamp::now().as_second())
}

/// Says something on standard error, where there is somebody to read it.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "encr-milter: {text}");
}

/// Whether diagnostics are coloured: for a person, unless `NO_COLOR` is set.
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
