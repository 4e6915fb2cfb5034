//! The daemon: its file, its policy, whether it runs and by which policy, and what it writes to.

use super::Known;
use super::control::{Control, NoStatus, Running};
use super::finding::{Area, Findings};
use super::machine::{Machine, Process, Who, group_name, shown, user_name};
use crate::control::AskError;
use crate::daemon_file::{self, DEFAULT_PATH, DaemonFile};
use crate::diagnostics::{Diagnostics, Severity, Sources};
use crate::policy::Policy;
use crate::policy::rule::{Mode, Standing};
use crate::policy_file::load::{Disk, load};
use nix::sys::statvfs::statvfs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const AREA: Area = Area::Daemon;
/// Below this share of free space, and below so many bytes, a log may soon be lost.
const LITTLE: (u64, u64) = (20, 512 * 1024 * 1024);
/// A clock that is this far behind a file was put back, or was never right.
const AHEAD: Duration = Duration::from_mins(2);

pub(super) fn examine(
    known: &mut Known<'_>,
    control: &dyn Fn(&Path) -> Box<dyn Control>,
    findings: &mut Findings,
) {
    files(known, findings);
    let Some(daemon) = known.daemon.clone() else { return };
    runs(known, &daemon, control, findings);
    let who = daemon_user(known);
    let folders = [(
        "state-folder",
        Some(daemon.state.clone()),
        "it keeps the last good policy and the evidence there",
    )];
    let decisions = daemon.log.decisions.as_ref().and_then(|file| file.parent()).map(Path::to_path_buf);
    let decisions = [("decisions-file", decisions, "decisions are written there")];
    for (code, folder, what) in folders.into_iter().chain(decisions) {
        match folder {
            Some(folder) => writable(&known.machine, code, &folder, what, who.as_ref(), findings),
            None => findings.warning(
                AREA,
                "decisions-file",
                "no file of decisions: what was decided is in the daemon's log only, where level info is on",
                &["decisions = \"/var/log/encr-milter/decisions.jsonl\", below [log] of the daemon's file; then restart it"],
            ),
        }
    }
    clock(known, &daemon, findings);
}

/// The daemon's file and the policy: what `check` says, in short.
fn files(known: &mut Known<'_>, findings: &mut Findings) {
    let config = known.machine.path(&known.settings.config);
    let read = daemon_file::read(&config);
    let check = format!("encr-milter check -c {}", config.display());
    told("daemon-file", &read.diagnostics, &read.sources, &check, findings);
    let Some(daemon) = read.daemon else { return };
    if !read.diagnostics.iter().any(|_| true) {
        findings.ok(AREA, "daemon-file", format!("{}: nothing wrong with it", config.display()));
    }
    let mut request = daemon.policy.request();
    request.patterns = request.patterns.iter().map(|file| known.machine.path(file)).collect();
    let loaded = load(&request, &mut Disk, known.today);
    told("policy", &loaded.diagnostics, &loaded.sources, &check, findings);
    if let Some(policy) = &loaded.policy {
        meaning(known, policy, findings);
    }
    known.policy = loaded.policy;
    known.daemon = Some(daemon);
}

fn told(
    code: &'static str,
    diagnostics: &Diagnostics,
    sources: &Sources,
    check: &str,
    findings: &mut Findings,
) {
    let Some((severity, first)) = diagnostics.lines(sources).max_by_key(|(severity, _)| *severity) else {
        return;
    };
    let found = format!("{}: {first}", diagnostics.summary().unwrap_or_default());
    match severity {
        Severity::Error => findings.problem(AREA, code, found, &[check]),
        Severity::Warning => findings.warning(AREA, code, found, &[check]),
    }
}

/// What the policy asks of anybody at all.
fn meaning(known: &Known<'_>, policy: &Policy, findings: &mut Findings) {
    let standing = policy.rules().iter().filter(|rule| rule.standing(known.today) == Standing::InForce);
    let standing: Vec<_> = standing.collect();
    let with = |mode| {
        standing
            .iter()
            .filter(|rule| rule.modes.in_force(known.today).any(|(other, _)| other == mode))
            .count()
    };
    let by_mode = Mode::HARDEST_FIRST.map(|mode| (mode, with(mode)));
    let all = by_mode.map(|(mode, number)| format!("{number} {mode}")).join(", ");
    let rules = match standing.len() {
        1 => "1 rule".to_owned(),
        number => format!("{number} rules"),
    };
    let rules = format!("policy {}: {rules} in force ({all})", policy.fingerprint());
    if by_mode.iter().all(|(_, number)| *number == 0) {
        findings.warning(
            AREA,
            "policy-empty",
            format!("{rules}: nobody is asked for anything"),
            &["write a rule: the guide, \"Staging a rule\"; `from` of a day to come is not in force yet"],
        );
    } else {
        findings.ok(AREA, "policy-rules", rules);
    }
    if policy.exempt().networks.iter().any(crate::policy::network::Network::is_everything) {
        findings.problem(
            AREA,
            "exempt-everybody",
            "[exempt] networks holds every address: no client and no server is judged, whatever the rules say",
            &["take the /0 out of `networks` below [exempt] of the policy"],
        );
    }
}

/// Whether it runs, and by which policy.
fn runs(
    known: &mut Known<'_>,
    daemon: &DaemonFile,
    control: &dyn Fn(&Path) -> Box<dyn Control>,
    findings: &mut Findings,
) {
    let mut is_forbidden = false;
    let why = match daemon.control.as_ref().map(|path| control(&known.machine.path(path)).status()) {
        Some(Ok(running)) => {
            let pid = running.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
            findings.ok(AREA, "daemon-running", format!("the daemon runs{pid}"));
            in_force(known, &running, findings);
            known.running = Some(running);
            return;
        }
        Some(Err(NoStatus::NoAnswer(path, error @ AskError::Silent(_)))) => {
            findings.problem(
                AREA,
                "daemon-running",
                format!("the daemon hangs: on {}, {error}", path.display()),
                &["systemctl restart encr-milter (its watchdog does so by itself after half a minute)"],
            );
            return;
        }
        Some(Err(error)) => {
            is_forbidden = matches!(error, NoStatus::NoAnswer(_, AskError::Forbidden));
            error.to_string()
        }
        None => "it has no control socket".to_owned(),
    };
    let processes = processes(known);
    if let Some((process, _)) = processes.iter().find(|(_, config)| is_ours(known, config.as_deref())) {
        findings.ok(AREA, "daemon-running", format!("the daemon runs, process {}", process.pid));
        by_record(known, daemon, &why, findings);
        known.running = Some(Running { pid: Some(process.pid), ..Running::default() });
        return;
    }
    if is_forbidden {
        let found = format!("whether the daemon runs is not known: {why}");
        return findings.not_looked(AREA, "daemon-running", found, &["run doctor as root"]);
    }
    let others: Vec<String> = processes
        .iter()
        .map(|(process, config)| {
            let config = config.as_ref().map(|config| config.display().to_string());
            format!(
                "process {} runs with {}",
                process.pid,
                config.as_deref().unwrap_or("a file that is not known")
            )
        })
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
    findings.problem(
        AREA,
        "daemon-running",
        format!(
            "no daemon runs with {}, as far as can be seen: {why}{others}",
            known.settings.config.display()
        ),
        &[&format!("{}; journalctl -u encr-milter says why it does not", start(&known.machine))],
    );
}

/// What starts the daemon: with its socket unit, where that is enabled. A daemon that is started without it makes the
/// sockets itself, and systemd cannot hold them then.
pub(super) fn start(machine: &Machine) -> &'static str {
    let enabled = Path::new("/etc/systemd/system/sockets.target.wants/encr-milter.socket");
    if machine.exists(enabled) {
        "systemctl start encr-milter.socket encr-milter"
    } else {
        "systemctl start encr-milter"
    }
}

/// Daemons that run, each with the file that it was started with.
fn processes(known: &Known<'_>) -> Vec<(Process, Option<PathBuf>)> {
    let all = known.machine.processes().into_iter().filter(|process| process.name.starts_with("encr-milter"));
    all.filter_map(|process| {
        let mut words = process.title.split(' ').skip_while(|word| *word != "run");
        words.next()?;
        let mut config = Some(PathBuf::from(DEFAULT_PATH));
        while let Some(word) = words.next() {
            match word.strip_prefix("--config").or_else(|| word.strip_prefix("-c")) {
                Some("") => config = words.next().map(PathBuf::from),
                Some(rest) => config = Some(PathBuf::from(rest.trim_start_matches('='))),
                None => {}
            }
        }
        let config = config.and_then(|config| {
            let folder = known.machine.folder_of(process.pid);
            if config.is_absolute() { Some(config) } else { folder.map(|folder| folder.join(config)) }
        });
        Some((process, config))
    })
    .collect()
}

/// Whether a daemon's file is the one that is looked at; one that cannot be told may be.
fn is_ours(known: &Known<'_>, config: Option<&Path>) -> bool {
    let file = |path: &Path| known.machine.meta(path).map(|meta| (meta.dev(), meta.ino())).ok();
    config
        .is_none_or(|config| config == known.settings.config || file(config) == file(&known.settings.config))
}

fn in_force(known: &Known<'_>, running: &Running, findings: &mut Findings) {
    let Some(policy) = &known.policy else {
        findings.problem(
            AREA,
            "policy-in-force",
            format!("policy {} is in force, which is not what the files say: they are wrong", running.policy),
            &["mend the files: encr-milter check tells how; they are taken as soon as they are sound"],
        );
        return;
    };
    let wanted = policy.fingerprint().as_str();
    if running.policy == wanted {
        findings.ok(AREA, "policy-in-force", format!("policy {wanted} is in force, as the files say"));
    } else {
        let other = running.config.as_deref().filter(|config| Path::new(config) != known.settings.config);
        let other = other.map(|config| format!("; it was started with {config}")).unwrap_or_default();
        findings.problem(
            AREA,
            "policy-in-force",
            format!("policy {} is in force, the files say {wanted}{other}", running.policy),
            &["systemctl reload encr-milter", "journalctl -u encr-milter says why a change was not taken"],
        );
    }
    if running.lost > 0 {
        findings.warning(
            AREA,
            "lines-lost",
            format!(
                "{} lines were lost since it was started: the disk, or the log, did not take them",
                running.lost
            ),
            &["journalctl -u encr-milter says which"],
        );
    }
}

/// Without a word from the daemon, the last record tells by which policy it judges.
fn by_record(known: &Known<'_>, daemon: &DaemonFile, why: &str, findings: &mut Findings) {
    let wanted = known.policy.as_ref().map(|policy| policy.fingerprint().as_str().to_owned());
    let last =
        daemon.log.decisions.as_ref().and_then(|file| super::records::last_policy(&known.machine, file));
    match (last, wanted) {
        (Some(last), Some(wanted)) if last == wanted => {
            findings.ok(AREA, "policy-in-force", format!("the last record was judged by policy {wanted}, as the files say"));
        }
        (Some(last), Some(wanted)) => findings.warning(
            AREA,
            "policy-in-force",
            format!("the last record was judged by policy {last}, the files say {wanted}: no mail since, or not taken"),
            &["systemctl reload encr-milter"],
        ),
        _ => findings.not_looked(
            AREA,
            "policy-in-force",
            format!("which policy is in force is not known: {why}, and there is no record to tell"),
            &["run doctor as root, and give the daemon a control socket"],
        ),
    }
}

fn daemon_user(known: &Known<'_>) -> Option<Who> {
    let pid = known.running.as_ref().and_then(|running| running.pid)?;
    known.machine.who_runs(pid)
}

/// Whether the daemon may write into a folder, and whether there is room.
fn writable(
    machine: &Machine,
    code: &'static str,
    folder: &Path,
    what: &str,
    who: Option<&Who>,
    findings: &mut Findings,
) {
    let meta = match machine.meta(folder) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let found = format!("{} cannot be looked at: {error}", folder.display());
            return findings.not_looked(AREA, code, found, &["run doctor as root"]);
        }
        Err(error) => {
            let make = format!("install -d -o encr-milter -g encr-milter -m 750 {}", folder.display());
            let found = format!("{}: {error}; {what}", folder.display());
            return findings.problem(AREA, code, found, &[&make]);
        }
    };
    let owner = format!("{}:{} {:04o}", user_name(meta.uid()), group_name(meta.gid()), meta.mode() & 0o7777);
    match who {
        Some(who) if !meta.is_dir() || !who.may(&meta, 0o3) => {
            let user = user_name(who.uid);
            let mend = format!("chown {user} {0} && chmod u+rwx {0}", folder.display());
            let found =
                format!("the daemon ({user}) may not write to {} ({owner}); {what}", folder.display());
            return findings.problem(AREA, code, found, &[&mend]);
        }
        Some(_) => {
            findings.ok(AREA, code, format!("{} ({owner}): the daemon may write to it", folder.display()));
        }
        None => findings.not_looked(
            AREA,
            code,
            format!(
                "{} ({owner}): whether the daemon may write to it is not known, for it does not run",
                folder.display()
            ),
            &["start the daemon, and run doctor again"],
        ),
    }
    let Ok(disk) = statvfs(&machine.path(folder)) else { return };
    let (free, all) = (disk.blocks_available() * disk.fragment_size(), disk.blocks() * disk.fragment_size());
    if free < LITTLE.1 && free < all / LITTLE.0 {
        let found = format!("{} MB are free where {} is", free / 1_000_000, folder.display());
        let remedy = ["make room: lines that the disk does not take are lost, and counted; mail goes on"];
        if free == 0 {
            findings.problem(AREA, "disk-space", found, &remedy);
        } else {
            findings.warning(AREA, "disk-space", found, &remedy);
        }
    }
}

/// Dates of the policy are held against the clock.
fn clock(known: &Known<'_>, daemon: &DaemonFile, findings: &mut Findings) {
    let now = SystemTime::now();
    let files = daemon.policy.patterns.iter().map(PathBuf::as_path).chain([known.settings.config.as_path()]);
    let future = files
        .filter_map(|file| Some((file, known.machine.modified(file)?)))
        .find(|(_, at)| *at > now + AHEAD);
    match future {
        Some((file, at)) => findings.warning(
            AREA,
            "clock",
            format!(
                "{} was changed at {}, and now it is {}: the clock was put back, and dates of the policy are held against it",
                file.display(),
                shown(at),
                shown(now)
            ),
            &["timedatectl status"],
        ),
        None => findings.ok(AREA, "clock", format!("{}: dates of the policy are judged by it", shown(now))),
    }
}
