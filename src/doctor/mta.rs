//! Which MTA this machine has, which configuration it runs with, and whether that is the one in the file.
//!
//! sendmail puts words of its own in the place of its arguments, so that `-C` cannot be seen there; but it writes them
//! into its pid file, anew at each start and at each SIGHUP. So that file's time is that of the configuration in force.

use super::finding::{Area, Findings};
use super::machine::{Process, shown};
use super::{Known, Sendmail};
use crate::sendmail::cf::Cf;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const AREA: Area = Area::Mta;
const DEFAULT_CF: &str = "/etc/mail/sendmail.cf";
/// Where it is on Debian where sendmail.cf does not say.
const PID_FILES: [&str; 2] = ["/run/sendmail/mta/sendmail.pid", "/var/run/sendmail.pid"];
const MAIN_CF: &str = "/etc/postfix/main.cf";
/// File systems keep times of different grain.
const GRAIN: std::time::Duration = std::time::Duration::from_millis(10);

/// Finds sendmail's configuration; nothing where there is none, or Postfix is the MTA.
pub(super) fn find(known: &Known<'_>, findings: &mut Findings) -> Option<Sendmail> {
    let told = known.settings.cf.clone();
    let path = told.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CF));
    let postfix = known.machine.exists(Path::new(MAIN_CF));
    if told.is_none() && postfix && (!known.machine.exists(&path) || postfix_runs(known)) {
        return None;
    }
    let cf = read(known, &path, findings)?;
    let pid_files: Vec<PathBuf> = match cf.option("PidFile") {
        Some(file) => vec![PathBuf::from(file)],
        None => PID_FILES.map(PathBuf::from).into(),
    };
    let started = pid_files.iter().find_map(|file| started(known, file));
    // The one that runs may have another configuration than the one at the usual place.
    if let (None, Some(Started { cf: Some(other), .. })) = (&told, &started)
        && known.machine.path(other) != known.machine.path(&path)
    {
        findings.warning(
            AREA,
            "other-cf",
            format!(
                "the running sendmail was started with -C {}: that file is looked at, not {DEFAULT_CF}",
                other.display()
            ),
            &["is that meant? `systemctl cat sendmail` and /etc/mail/sendmail.conf say how it is started"],
        );
        let cf = read(known, other, findings)?;
        let sendmail = Sendmail { cf, path: other.clone() };
        runs(known, &sendmail, started.as_ref(), findings);
        return Some(sendmail);
    }
    let sendmail = Sendmail { cf, path };
    runs(known, &sendmail, started.as_ref(), findings);
    Some(sendmail)
}

fn postfix_runs(known: &Known<'_>) -> bool {
    let all = known.machine.processes();
    all.iter().any(|process| process.name == "master" && process.title.contains("postfix"))
        && !all.iter().any(is_sendmail_daemon)
}

fn is_sendmail_daemon(process: &Process) -> bool {
    let is_sendmail = process.name.starts_with("sendmail") || process.name.starts_with("sm-mta");
    // `sendmail: MTA: accepting connections`, or its arguments while it starts.
    is_sendmail && ["accepting connections", "-bd", "-bD"].iter().any(|word| process.title.contains(word))
}

fn read(known: &Known<'_>, path: &Path, findings: &mut Findings) -> Option<Cf> {
    let elsewhere = "encr-milter doctor --sendmail-cf FILE, where it lies elsewhere";
    let mut problem = |why: String, remedy: &str| {
        let found = format!("{} {why}; whether mail is judged here is not known", path.display());
        findings.problem(AREA, "sendmail-cf", found, &[elsewhere, remedy]);
        None
    };
    let text = match known.machine.text(path) {
        Ok(text) => text,
        Err(error) => return problem(format!("cannot be read: {error}"), "run doctor as root"),
    };
    let cf = Cf::parse(&text);
    if !cf.is_runnable() {
        // Empty, cut off, or something else: what is not in it says nothing.
        let why = "is nothing that sendmail could run with (it has no mailer `local`)".to_owned();
        return problem(why, "make -C /etc/mail writes it anew from sendmail.mc");
    }
    Some(cf)
}

/// What a pid file tells of the sendmail that runs.
struct Started {
    pid: u32,
    /// When it read its configuration.
    at: SystemTime,
    /// Its `-C`.
    cf: Option<PathBuf>,
}

fn started(known: &Known<'_>, file: &Path) -> Option<Started> {
    let text = known.machine.text(file).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    // One that is left over names a process that is gone, or is another's by now.
    known
        .machine
        .process(pid)
        .filter(|process| process.name.contains("sendmail") || process.name.contains("sm-mta"))?;
    Some(Started { pid, at: known.machine.modified(file)?, cf: argument_c(lines.next().unwrap_or_default()) })
}

/// The argument of `-C` in a command line: `-Cfile` or `-C file`.
fn argument_c(command: &str) -> Option<PathBuf> {
    let mut words = command.split_ascii_whitespace();
    while let Some(word) = words.next() {
        match word.strip_prefix("-C") {
            Some("") => return words.next().map(PathBuf::from),
            Some(path) => return Some(PathBuf::from(path)),
            None => {}
        }
    }
    None
}

/// Whether it runs, and whether with what the file says now.
fn runs(known: &Known<'_>, sendmail: &Sendmail, started: Option<&Started>, findings: &mut Findings) {
    let path = sendmail.path.display();
    made(known, &sendmail.path, findings);
    let Some(changed) = known.machine.modified(&sendmail.path) else { return };
    match started {
        Some(started) if changed > started.at + GRAIN => findings.problem(
            AREA,
            "not-restarted",
            format!(
                "{path} was changed at {}, after sendmail (process {}) read it at {}: what it says is not in force",
                shown(changed),
                started.pid,
                shown(started.at)
            ),
            &["/etc/init.d/sendmail reload"],
        ),
        Some(started) => findings.ok(
            AREA,
            "mta-running",
            format!("sendmail (process {}) runs with {path}, as it is now", started.pid),
        ),
        None => match known.machine.processes().iter().find(|process| is_sendmail_daemon(process)) {
            Some(process) => findings.not_looked(
                AREA,
                "not-restarted",
                format!(
                    "sendmail runs (process {}); whether with {path} as it is now is not known, for its pid file cannot be read",
                    process.pid
                ),
                &["run doctor as root", "/etc/init.d/sendmail reload, to be sure"],
            ),
            None => findings.problem(
                AREA,
                "mta-running",
                format!("no sendmail runs here as a daemon, as far as can be seen; {path} is looked at"),
                &["systemctl start sendmail"],
            ),
        },
    }
}

/// Whether sendmail.mc has been made into sendmail.cf.
fn made(known: &Known<'_>, cf: &Path, findings: &mut Findings) {
    let mc = cf.with_extension("mc");
    if let (Some(mc_at), Some(cf_at)) = (known.machine.modified(&mc), known.machine.modified(cf))
        && mc_at > cf_at + GRAIN
    {
        findings.warning(
            AREA,
            "not-made",
            format!("{} is newer than {}: what was changed there is not in it", mc.display(), cf.display()),
            &["make -C /etc/mail && /etc/init.d/sendmail reload"],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_is_found_in_both_of_its_forms() {
        for (command, expected) in [
            ("/usr/sbin/sendmail -bd -q10m", None),
            ("/usr/sbin/sendmail -bD -C /run/x/sendmail.cf", Some("/run/x/sendmail.cf")),
            ("/usr/sbin/sendmail -C/run/x.cf -bd", Some("/run/x.cf")),
            ("", None),
            ("sendmail -C", None),
        ] {
            assert_eq!(argument_c(command), expected.map(PathBuf::from), "{command}");
        }
    }
}
