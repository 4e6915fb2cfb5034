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
use clap::{Parser, Subcommand};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// sysexits(3): what scripts and systemd can tell apart.
pub(crate) mod exit {
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
  encr-milter status                                 how does it do?

Exit codes are those of sysexits(3): 0 all is well, 1 a gate is shut, 64 wrong arguments, 65 bad input,
66 no input, 69 a socket is taken or nobody answers, 70 a fault of the program, 71 the system refused, 73 a file
cannot be made, 74 output failed, 75 try again, 76 a server breaks the protocol, 77 no permission, 78 a file of the
configuration is wrong.";

/// Enforces minimum TLS strength per domain in front of sendmail, and lets a rule ripen from observe over
/// soft-fail to enforce.
#[derive(Debug, Parser)]
#[command(name = "encr-milter", version, after_help = EXAMPLES, max_term_width = 100)]
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
