//! `doctor` and `probe` against the real sendmail: in health, and broken on purpose, each in one way.
//!
//! What is broken is broken for sendmail too: where `doctor` says that mail is not judged, a message shows it
//! (`--live` looks for its record). Must not: be content with an exit code; each trial names the finding that it is about.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::tool::run_allowing;
use crate::rig::{Result, Rig};

/// A trial by its name.
type Named = (&'static str, fn(&Rig) -> Result<()>);

pub(crate) const ALL: &[Named] = &[
    ("doctor-healthy", healthy),
    ("doctor-not-attached", not_attached),
    ("doctor-other-socket", other_socket),
    ("doctor-port-of-its-own", port_of_its_own),
    ("doctor-unsafe-folder", unsafe_folder),
    ("doctor-low-log-level", low_log_level),
    ("doctor-access-first", access_first),
    ("doctor-no-flag", no_flag),
    ("doctor-not-restarted", not_restarted),
    ("doctor-daemon-down", daemon_down),
    ("doctor-no-starttls", no_starttls),
    ("doctor-weak-cipher", weak_cipher),
    ("doctor-client-certificates", client_certificates),
    ("doctor-outbound", outbound),
    ("probe-every-peer", every_peer),
];

/// Rules that defer, and judge everybody.
const POLICY: &str = r#"
version = 1
[exempt]
networks = []
[[rule]]
name = "everyone"
client = ["*"]
soft-fail = { min-bits = 128 }
"#;

/// A machine with daemon and sendmail, as far as it has been broken already.
struct Patient {
    folder: TempDir,
    daemon: Daemon,
    sendmail: Sendmail,
}

impl Patient {
    fn with(rig: &Rig, policy: &str, change: impl FnOnce(&Path, &mut Options)) -> Result<Patient> {
        Patient::with_settings(rig, policy, "", change)
    }

    fn with_settings(
        rig: &Rig,
        policy: &str,
        settings: &str,
        change: impl FnOnce(&Path, &mut Options),
    ) -> Result<Patient> {
        let folder =
            tempfile::Builder::new().prefix("doctor").tempdir().map_err(|e| format!("a folder: {e}"))?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .map_err(|e| format!("the folder: {e}"))?;
        let settings = toml::from_str(settings).map_err(|e| format!("settings: {e}"))?;
        let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
        fs::write(folder.path().join("policy.toml"), policy).map_err(|e| format!("policy.toml: {e}"))?;
        daemon.start()?;
        let mut options = Options {
            attach: daemon.listen().to_vec(),
            flags: Some("T".to_owned()),
            timeouts: Some("C:10s;S:10s;R:60s;E:2m".to_owned()),
            ..Options::default()
        };
        change(folder.path(), &mut options);
        let sendmail = Sendmail::start(rig, folder.path(), "doctor", &options)?;
        let text = options.access.join("\n") + "\n";
        fs::write(folder.path().join("sendmail/access"), text).map_err(|e| format!("access: {e}"))?;
        Ok(Patient { folder, daemon, sendmail })
    }

    fn cf(&self) -> std::path::PathBuf {
        self.folder.path().join("sendmail/sendmail.cf")
    }

    fn examine(&self, rig: &Rig, more: &[&str]) -> Result<Told> {
        let mut command = Command::new(&rig.daemon);
        command
            .args(["doctor", "--json", "-c"])
            .arg(self.daemon.config())
            .arg("--sendmail-cf")
            .arg(self.cf());
        let output = run_allowing(command.args(more), "", &[78])?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("the report: {e}"))?;
        let told = Told(report);
        let code = output.status.code();
        if (code == Some(0)) == (told.0.get("problems").and_then(Value::as_u64) == Some(0)) {
            Ok(told)
        } else {
            Err(format!("exit code {code:?}: {told:#?}"))
        }
    }
}

#[derive(Debug)]
struct Told(Value);

impl Told {
    fn findings(&self) -> &[Value] {
        self.0.get("findings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn all(&self, level: &str) -> Vec<&str> {
        let of_level = self.findings().iter().filter(|finding| finding["level"] == level);
        of_level.filter_map(|finding| finding["code"].as_str()).collect()
    }

    /// These and no others are wrong; a message that was begun is among them where it should have come and did not.
    fn problems(&self, expected: &[&str]) -> Result<()> {
        let mut found = self.all("problem");
        found.dedup();
        if found == expected {
            Ok(())
        } else {
            Err(format!("problems {found:?}, not {expected:?}: {:#}", self.0))
        }
    }

    /// A finding of this code and level whose words have this in them; and what to do about it.
    fn says(&self, level: &str, code: &str, words: &str) -> Result<()> {
        let found = self.findings().iter().any(|finding| {
            let text = finding["found"].as_str().unwrap_or_default();
            let mended = level == "ok" || finding["remedy"].as_array().is_some_and(|lines| !lines.is_empty());
            finding["level"] == level && finding["code"] == code && text.contains(words) && mended
        });
        if found {
            Ok(())
        } else {
            Err(format!("no {level} {code} with {words:?} and a remedy: {:#}", self.0))
        }
    }
}

fn healthy(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, _| {})?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&[])?;
    for (code, words) in [
        ("mta-running", "runs with"),
        ("attached", "every session is shown to encr-milter0"),
        ("socket-agreed", "the daemon's file says"),
        ("socket-safe", "sendmail may open"),
        ("socket-answers", "asks for the macros"),
        ("when-down", "F=T"),
        ("starttls", "TLSv1.3"),
        ("demand-possible", "256 bits"),
        ("log-level", "LogLevel=12"),
        ("access-first", "no TLS rule"),
        ("state-folder", "may write"),
        ("live", "TLSv1.3, 256 bits): verdict pass, accept"),
    ] {
        told.says("ok", code, words)?;
    }
    // Where the configuration of a running sendmail is, its pid file tells; its own title does not.
    let pid_file = fs::read_to_string(patient.folder.path().join("sendmail/pid"))
        .map_err(|e| format!("pid file: {e}"))?;
    let cf = patient.cf().display().to_string();
    if !pid_file.lines().nth(1).is_some_and(|line| line.contains("-C") && line.contains(&cf)) {
        return Err(format!("the pid file: {pid_file}"));
    }
    // SIGHUP has sendmail read its configuration anew: that is no reason to call it old.
    touch(&patient.cf(), SystemTime::now())?;
    patient.examine(rig, &[])?.problems(&["not-restarted"])?;
    patient.sendmail.reload()?;
    crate::rig::wait::until("sendmail to have read its configuration", || {
        patient.examine(rig, &[]).and_then(|told| told.problems(&[])).ok()
    })
}

fn not_attached(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, options| options.attach.clear())?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&["attached", "live"])?;
    told.says("problem", "attached", "no mail is judged")
}

fn other_socket(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |folder, options| {
        options.attach = vec![format!("local:{}/other.sock", folder.display())];
        options.flags = None;
    })?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&["socket-agreed", "socket-safe", "live"])?;
    told.says("problem", "socket-agreed", "other.sock, but the daemon's file says unix:")?;
    told.says("warning", "when-down", "no F=")
}

fn port_of_its_own(rig: &Rig) -> Result<()> {
    let port = rig.port();
    let patient = Patient::with(rig, POLICY, |folder, options| {
        let other = format!("MAIL_FILTER(`none', `S=local:{}/none.sock, T=C:1s')dnl", folder.display());
        let port = format!(
            "DAEMON_OPTIONS(`Name=Side, Family=inet, Addr=127.0.0.25, Port={port}, InputMailFilters=none')dnl"
        );
        options.mc = vec![other, port];
    })?;
    let told = patient.examine(rig, &["--live", "--mta", &format!("127.0.0.25:{port}")])?;
    told.problems(&["attached", "live"])?;
    told.says("problem", "attached", "a list of their own")
}

fn unsafe_folder(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, options| options.flags = None)?;
    fs::set_permissions(patient.folder.path(), fs::Permissions::from_mode(0o775))
        .map_err(|e| format!("the folder: {e}"))?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&["socket-safe", "live"])?;
    told.says("problem", "socket-safe", "a group may write to")
}

fn low_log_level(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, options| {
        options.mc = vec!["define(`confLOG_LEVEL', `8')dnl".to_owned()];
    })?;
    let told = patient.examine(rig, &[])?;
    told.problems(&[])?;
    told.says("warning", "log-level", "LogLevel=8")
}

fn access_first(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, options| {
        options.access = vec![
            "TLS_Clt:partner.example\tPERM+ENCR:256".to_owned(),
            "TLS_Clt:other.example\tOK".to_owned(),
            "TLS_Clt:bad.example\tENCR256".to_owned(),
        ];
    })?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&[])?;
    told.says(
        "warning",
        "access-first",
        "TLS_Clt:partner.example PERM+ENCR:256 (line 1); of the clients of rule everyone",
    )?;
    told.says("warning", "access-lint", "1 TLS rules do not do what they say")
}

fn no_flag(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, options| options.flags = None)?;
    let told = patient.examine(rig, &[])?;
    told.problems(&[])?;
    told.says("warning", "when-down", "mail passes unjudged")
}

fn not_restarted(rig: &Rig) -> Result<()> {
    let patient = Patient::with(rig, POLICY, |_, _| {})?;
    touch(&patient.cf(), SystemTime::now() + Duration::from_secs(5))?;
    File::create(patient.cf().with_extension("mc")).map_err(|e| format!("sendmail.mc: {e}"))?;
    touch(&patient.cf().with_extension("mc"), SystemTime::now() + Duration::from_secs(10))?;
    let told = patient.examine(rig, &[])?;
    told.problems(&["not-restarted"])?;
    told.says("warning", "not-made", "is newer than")
}

fn daemon_down(rig: &Rig) -> Result<()> {
    let mut patient = Patient::with(rig, POLICY, |_, _| {})?;
    patient.daemon.signal(Signal::SIGTERM)?;
    patient.daemon.wait()?;
    let told = patient.examine(rig, &["--live"])?;
    // With F=T sendmail puts STARTTLS and MAIL off: whether the milter is asked cannot be tried.
    told.problems(&["daemon-running", "socket-safe", "starttls"])?;
    told.says("problem", "socket-safe", "is missing")?;
    told.says("problem", "starttls", "while the milter does not answer")?;
    told.says("not-looked", "live", "the MTA refuses a message")
}

fn no_starttls(rig: &Rig) -> Result<()> {
    let patient =
        Patient::with(rig, POLICY, |_, options| options.access = vec!["Srv_Features:\tS".to_owned()])?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&["starttls"])?;
    told.says("problem", "starttls", "does not offer STARTTLS")?;
    told.says("warning", "starttls-withheld", "srv_features: (line 1)")
        .or_else(|_| told.says("warning", "starttls-withheld", "Srv_Features: (line 1)"))?;
    // What is not offered is not there: that, too, comes to the milter as it is.
    told.says("ok", "live", "(no TLS): verdict fail, tempfail")
}

fn weak_cipher(rig: &Rig) -> Result<()> {
    let policy = POLICY
        .replace("soft-fail = { min-bits = 128 }", "enforce = { min-bits = 256, min-version = \"TLSv1.3\" }");
    let patient = Patient::with(rig, &policy, |_, options| {
        options.mc = vec![
            "define(`confCIPHER_LIST', `ECDHE-RSA-AES128-GCM-SHA256')dnl".to_owned(),
            "define(`confSERVER_SSL_OPTIONS', `SSL_OP_NO_TLSv1_3')dnl".to_owned(),
        ];
    })?;
    let told = patient.examine(rig, &["--live"])?;
    told.problems(&["demand-possible"])?;
    told.says("problem", "demand-possible", "rule everyone (enforce) asks for 256 bits, and MTA-v4")?;
    told.says("ok", "live", "TLSv1.2, 128 bits): verdict fail, reject")
}

fn client_certificates(rig: &Rig) -> Result<()> {
    let policy = POLICY.replace("min-bits = 128", "verify = true");
    let patient = Patient::with(rig, &policy, |_, options| options.no_client_cert = true)?;
    let told = patient.examine(rig, &[])?;
    told.problems(&["client-certificates"])?;
    told.says("problem", "client-certificates", "TLSSrvOptions=V")
}

fn outbound(rig: &Rig) -> Result<()> {
    let rule = "[[rule]]\nname = \"out\"\nserver = [\"*\"]\nobserve = { min-bits = 128 }\n";
    let settings = "outbound.listen = [\"unix:{dir}/outbound.sock\"]";
    let policy = format!("{POLICY}{rule}");
    let patient = Patient::with_settings(rig, &policy, settings, |_, _| {})?;
    let told = patient.examine(rig, &[])?;
    told.problems(&["outbound-asked"])?;
    told.says("problem", "outbound-asked", "nobody holds to them")?;
    // The K line alone does not ask.
    let socket = patient.folder.path().join("outbound.sock");
    let cf = fs::read_to_string(patient.cf()).map_err(|e| format!("sendmail.cf: {e}"))?;
    let before =
        patient.cf().metadata().and_then(|meta| meta.modified()).map_err(|e| format!("sendmail.cf: {e}"))?;
    let snippet = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/sendmail-outbound.mc"))
        .map_err(|e| format!("sendmail-outbound.mc: {e}"))?;
    let here = |text: &str| text.replace("/run/encr-milter/outbound.sock", &socket.display().to_string());
    let k_line = snippet.lines().find(|line| line.starts_with('K')).unwrap_or_default();
    let put = |text: String| {
        fs::write(patient.cf(), text).map_err(|e| format!("sendmail.cf: {e}"))?;
        touch(&patient.cf(), before)
    };
    put(format!("{cf}{}\n", here(k_line)))?;
    let told = patient.examine(rig, &[])?;
    told.problems(&["outbound-asked"])?;
    told.says("problem", "outbound-asked", "no ruleset looks anything up in it")?;
    // As m4 puts it together.
    let rules = snippet
        .replace("LOCAL_CONFIG", "")
        .replace("LOCAL_TLS_SERVER", "SLocal_tls_server")
        .replace("LOCAL_TLS_RCPT", "SLocal_tls_rcpt")
        .replace("LOCAL_RULESETS", "");
    let rules: Vec<&str> = rules.lines().filter(|line| !line.starts_with("dnl")).collect();
    // The empty rulesets of the same names come first.
    let cf = cf.replace("SLocal_tls_server\n", "").replace("SLocal_tls_rcpt\n", "");
    put(format!("{cf}{}\n", here(&rules.join("\n"))))?;
    let told = patient.examine(rig, &[])?;
    told.problems(&[])?;
    for code in ["outbound-asked", "outbound-agreed", "outbound-answers"] {
        told.says("ok", code, "")?;
    }
    put(format!("{cf}{}\n", rules.join("\n")))?;
    patient.examine(rig, &[])?.problems(&["outbound-agreed", "outbound-answers"])
}

fn touch(path: &Path, time: SystemTime) -> Result<()> {
    let set = || File::options().append(true).open(path)?.set_modified(time);
    set().map_err(|e| format!("{}: {e}", path.display()))
}

/// What `probe` says of each of the peers is what sendmail, as a client, negotiates with it.
fn every_peer(rig: &Rig) -> Result<()> {
    let port = rig.peers()?.port;
    let ca = rig.certs.folder.join("ca.pem");
    for (host, code, starttls, session, verify) in [
        ("clear", 1, "not-offered", None, None),
        ("null", 0, "works", Some(("TLSv1.2", 0)), None),
        ("aes128", 0, "works", Some(("TLSv1.2", 128)), None),
        ("aes256", 0, "works", Some(("TLSv1.2", 256)), None),
        ("aes128-13", 0, "works", Some(("TLSv1.3", 128)), Some(true)),
        ("aes256-13", 0, "works", Some(("TLSv1.3", 256)), Some(true)),
        ("self-signed", 0, "works", Some(("TLSv1.3", 256)), Some(false)),
        ("long", 0, "works", Some(("TLSv1.3", 256)), Some(true)),
        ("six", 0, "works", Some(("TLSv1.3", 256)), Some(true)),
        ("broken", 76, "failed", None, None),
        ("busy", 1, "refused", None, None),
    ] {
        let mut command = Command::new(&rig.daemon);
        command.args(["probe", "--json", "--ca"]).arg(&ca).arg(format!("{host}.peer.example:{port}"));
        let output = run_allowing(&mut command, "", &[1, 76])?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("{host}: {e}"))?;
        let looked = report.pointer("/hosts/0").unwrap_or(&Value::Null);
        let at = |place: &str| looked.pointer(place).unwrap_or(&Value::Null);
        let fault =
            |what: &str| Err(format!("{host}: {what}: exit code {:?}, {looked:#}", output.status.code()));
        if output.status.code() != Some(code) || at("/starttls").as_str() != Some(starttls) {
            return fault("not so");
        }
        let version = at("/session/tls_version").as_str();
        let bits = at("/session/cipher_bits").as_u64();
        if session.map(|(version, _)| version) != version || session.map(|(_, bits)| bits) != bits {
            return fault("another session");
        }
        let objections = at("/certificate/objections").as_array();
        if verify.is_some_and(|verifies| objections.map(Vec::is_empty) != Some(verifies)) {
            return fault("the certificate");
        }
    }
    Ok(())
}
