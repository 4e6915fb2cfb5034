//! `encr-milter doctor`: is everything in place?

use super::exit;
use super::probe::{helo, own_name};
use crate::daemon_file::DEFAULT_PATH;
use crate::doctor::{Control, ControlSocket, Finding, Level, Settings, examine};
use crate::probe::target::Target;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Look at this machine, and say what is wrong and how to mend it
///
/// Looks at the daemon and its policy; at the running sendmail's configuration and the milter in it; at the socket, as
/// sendmail would; at what the MTA offers its clients, held against what the policy asks of them; at the TLS rules
/// of the access map; at mail that leaves; at what is recorded. Nothing is changed, and no mail is sent. What may only be
/// looked at by root is told as such.
///
/// Exits 0 where nothing is wrong (warnings are shown all the same), 78 where there are problems.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The daemon's file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// sendmail's configuration [default: that of the running sendmail, or /etc/mail/sendmail.cf]
    #[arg(long, value_name = "FILE")]
    sendmail_cf: Option<PathBuf>,
    /// The MTA to speak SMTP to [default: where sendmail.cf says that it listens]
    #[arg(long, value_name = "HOST[:PORT]")]
    mta: Option<Target>,
    /// Begin a message with the MTA, take it back before a recipient is named, and look for its record
    #[arg(long)]
    live: bool,
    /// The name to give with EHLO, and the domain of that message's sender [default: this host's]
    #[arg(long, value_name = "NAME", value_parser = helo)]
    helo: Option<String>,
    /// How long each step of a conversation may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Look at the files below this folder, as if it were /
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Only what is not as it should be
    #[arg(short, long)]
    quiet: bool,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    problems: usize,
    warnings: usize,
    not_looked: usize,
    findings: &'a [Finding],
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let settings = Settings {
        config: std::path::absolute(&arguments.config).unwrap_or_else(|_| arguments.config.clone()),
        root: std::path::absolute(&arguments.root).unwrap_or_else(|_| arguments.root.clone()),
        cf: arguments.sendmail_cf.clone(),
        mta: arguments.mta.clone(),
        live: arguments.live,
        timeout: Duration::from_secs(arguments.timeout),
        helo: arguments.helo.clone().unwrap_or_else(own_name),
    };
    let timeout = settings.timeout;
    let findings =
        examine(&settings, &|socket| -> Box<dyn Control> { Box::new(ControlSocket::new(socket, timeout)) });
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let report = Report {
        ok: count(Level::Problem) == 0,
        problems: count(Level::Problem),
        warnings: count(Level::Warning),
        not_looked: count(Level::NotLooked),
        findings: &findings,
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        let colour =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        draw(&mut out, &report, arguments, colour)?;
    }
    Ok(if report.ok { exit::OK } else { exit::CONFIG })
}

/// By area, each finding with what to do below it; the sum at the end.
fn draw(out: &mut impl Write, report: &Report<'_>, arguments: &Arguments, colour: bool) -> io::Result<()> {
    let (quiet, tried) = (arguments.quiet, arguments.live);
    let mut area = None;
    for finding in report.findings.iter().filter(|finding| !quiet || finding.level != Level::Ok) {
        if area != Some(finding.area) {
            area = Some(finding.area);
            writeln!(out, "{}", finding.area.as_str())?;
        }
        let paint = match finding.level {
            _ if !colour => "",
            Level::Ok => "\u{1b}[32m",
            Level::NotLooked => "\u{1b}[36m",
            Level::Warning => "\u{1b}[33m",
            Level::Problem => "\u{1b}[1;31m",
        };
        let plain = if paint.is_empty() { "" } else { "\u{1b}[0m" };
        let word = finding.level.as_str();
        writeln!(out, "  {paint}{word:<10}{plain} {} [{}]", finding.found, finding.code)?;
        for line in &finding.remedy {
            writeln!(out, "             -> {line}")?;
        }
    }
    if area.is_some() {
        writeln!(out)?;
    }
    let count = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {what}{plural}"))
    };
    let mut parts: Vec<String> = [count(report.problems, "problem"), count(report.warnings, "warning")]
        .into_iter()
        .flatten()
        .collect();
    if report.not_looked > 0 {
        parts.push(format!("{} could not be looked at", report.not_looked));
    }
    let sum = match (report.ok, parts.is_empty()) {
        (_, true) => "nothing is wrong".to_owned(),
        (true, false) => format!("no problems; {}", parts.join(", ")),
        (false, _) => parts.join(", "),
    };
    writeln!(out, "{sum}")?;
    if report.ok && !tried {
        writeln!(out, "whether a message is judged here and now: encr-milter doctor --live")?;
    }
    Ok(())
}
