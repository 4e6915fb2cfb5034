//! `encr-milter access import`: the TLS rules of sendmail's access map as a policy.

use super::super::{colour, complain, exit};
use crate::diagnostics::{DiagnosticRecord, Diagnostics};
use crate::policy::rule::Mode;
use crate::sendmail::MAX_SHOWN;
use crate::sendmail::import::{Options, import};
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Turn the TLS rules of an access map into a policy that decides as sendmail does
///
/// The policy goes to standard output, what is to be known of single lines to standard error and, as comments,
/// into the policy. Rules without a prefix and TEMP+ become `soft-fail`, PERM+ `enforce`, OK an exemption.
/// Lines that ask for the same become one rule.
///
/// Exit code 65: a line asks for what a policy cannot say to the letter (it is told which, and what it became).
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The text of the access map (/etc/mail/access, not access.db); - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// sendmail.mc defines TLS_PERM_ERR: rules without a prefix refuse for good
    #[arg(long)]
    tls_perm_err: bool,
    /// FEATURE(`access_db') of sendmail.mc is without `skip' (Debian has it): SKIP is silently accepted
    #[arg(long)]
    no_skip: bool,
    /// Take every rule in this mode, whatever its prefix; `observe` is a dry run
    #[arg(long, value_name = "MODE", value_parser = ["observe", "soft-fail", "enforce"])]
    mode: Option<String>,
    /// Tell policy and diagnostics as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    rules: usize,
    taken: usize,
    policy: &'a str,
    diagnostics: Vec<DiagnosticRecord<'a>>,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let read = match super::read(&arguments.file) {
        Ok(read) => read,
        Err(code) => return Ok(code),
    };
    let named = |name: &str| Mode::HARDEST_FIRST.into_iter().find(|mode| mode.as_str() == name);
    let options = Options {
        tls_perm_err: arguments.tls_perm_err,
        no_skip: arguments.no_skip,
        mode: arguments.mode.as_deref().and_then(named),
    };
    let mut diagnostics = Diagnostics::up_to(MAX_SHOWN);
    let name = arguments.file.display().to_string();
    let imported = import(&read.text, read.file, &name, options, &mut diagnostics);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.json {
        let mut policy = Vec::new();
        imported.write(&mut policy)?;
        let report = Report {
            ok: !imported.inexact,
            rules: imported.rules,
            taken: imported.taken,
            // What is written of strings is text.
            policy: &String::from_utf8_lossy(&policy),
            diagnostics: diagnostics.records(&read.sources),
        };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        write!(io::stderr().lock(), "{}", diagnostics.render(&read.sources, colour()))?;
        imported.write(&mut out)?;
        out.flush()?;
        let left = imported.rules - imported.taken;
        if imported.rules == 0 {
            complain(&format!("{name} has no TLS rules (TLS_Clt, TLS_Srv, TLS_Rcpt)"));
        } else if left > 0 {
            let taken = imported.taken;
            complain(&format!(
                "{taken} of {} TLS rules imported, {left} left out as comments",
                imported.rules
            ));
        }
    }
    Ok(if imported.inexact { exit::DATA } else { exit::OK })
}
