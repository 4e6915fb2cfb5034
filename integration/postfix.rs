//! What is Postfix's own: what it tells at which stage, mail that comes by no session, and our records of its sessions
//! read back. Its sessions beside sendmail's are cases (`rig/case/postfix.rs`).
//!
//! `docs/design.md` tells what was seen; the trials here hold Postfix to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::daemon::{Daemon, merge};
use crate::rig::mta::Kind;
use crate::rig::postfix::Postfix;
use crate::rig::sendmail::Options;
use crate::rig::smtp::{Client, Tls};
use crate::rig::tap::{Frame, tap};
use crate::rig::tool::{run, run_allowing};
use crate::rig::{Result, Rig, wait};
use crate::{promptness, waiting};

type Test = fn(&Rig) -> Result<()>;

/// All trials, by name.
pub(crate) const ALL: &[(&str, Test)] = &[
    ("postfix-tells", tells),
    ("postfix-local-mail", local_mail),
    ("postfix-implicit-tls", implicit_tls),
    ("postfix-proxy-protocol", proxy_protocol),
    ("postfix-records-read-back", records_read_back),
    ("postfix-doctor", doctor),
    ("postfix-untrue-macros", untrue_macros),
    ("postfix-tcp-is-prompt", promptness::with_postfix),
    ("postfix-max-delay", waiting::with_postfix),
];

const POLICY: &str = r#"
version = 1
[exempt]
networks = []
[[rule]]
name = "all"
client = ["*"]
observe = { min-bits = 256, verify = true }
enforce = { min-bits = 128 }
"#;

/// A Postfix with the daemon attached.
struct Pair {
    daemon: Daemon,
    postfix: Postfix,
    folder: tempfile::TempDir,
}

impl Pair {
    /// `settings` are the daemon's, laid over those that go with Postfix; `main` are lines of main.cf. Between the two
    /// the caller may put something.
    fn start(
        rig: &Rig,
        tag: &str,
        settings: &str,
        main: &[&str],
        between: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Pair> {
        let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
        let mut all = Kind::Postfix.settings(folder.path())?;
        merge(&mut all, &settings.parse().map_err(|e| format!("settings: {e}"))?);
        let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &all)?;
        fs::write(folder.path().join("policy.toml"), POLICY).map_err(|e| format!("policy.toml: {e}"))?;
        daemon.start()?;
        between(folder.path())?;
        let main: Vec<String> = main.iter().map(|line| (*line).to_owned()).collect();
        let postfix = Postfix::start(rig, folder.path(), tag, &Options::default(), &main)?;
        Ok(Pair { daemon, postfix, folder })
    }

    fn connect(&self) -> Result<Client> {
        let mut client = self.postfix.connect_from([127, 0, 0, 2].into())?;
        client.reply()?;
        client.say("EHLO mx.partner.example")?;
        Ok(client)
    }

    /// What `doctor` finds, as `level code found`, of a machine whose main.cf this Postfix's is.
    fn examine(&self, rig: &Rig) -> Result<Vec<String>> {
        let root = self.folder.path();
        let failed = |e: std::io::Error| format!("{}: {e}", root.display());
        fs::create_dir_all(root.join("etc")).map_err(failed)?;
        for (target, link) in [(root.join("pf/conf"), "etc/postfix"), ("/proc".into(), "proc")] {
            if !root.join(link).exists() {
                symlink(target, root.join(link)).map_err(failed)?;
            }
        }
        let mut command = Command::new(&rig.daemon);
        command.args(["doctor", "--json", "--live", "--helo", "mx.partner.example", "--root"]).arg(root);
        command.arg("-c").arg(self.daemon.config()).args(["--mta", &self.postfix.address().to_string()]);
        let output = run_allowing(&mut command, "", &[78])?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("the report: {e}"))?;
        let word = |finding: &Value, name: &str| {
            finding.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let findings = report.get("findings").and_then(Value::as_array).into_iter().flatten();
        Ok(findings
            .map(|finding| ["level", "code", "found"].map(|name| word(finding, name)).join(" "))
            .collect())
    }

    /// All of the daemon's records; it has ended then.
    fn records(&mut self) -> Result<Vec<Value>> {
        self.daemon.signal(Signal::SIGTERM)?;
        self.daemon.wait()?;
        self.daemon.decisions()
    }
}

fn starttls(rig: &Rig, client: &mut Client, tls: &Tls) -> Result<()> {
    client.say("STARTTLS")?;
    client.handshake(tls, &rig.certs)?;
    client.say("EHLO mx.partner.example").map(drop)
}

fn demand(holds: bool, says: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(says.into()) }
}

/// What is told at MAIL: in the clear, with TLS, and of a client without a name. A macro with no value is not told.
type Told = &'static [(&'static str, Option<&'static str>)];
const AT_MAIL: [(&str, Told); 3] = [
    (
        "in the clear",
        &[
            ("j", Some("mail.rig.example")),
            ("{client_addr}", Some("127.0.0.2")),
            ("{client_name}", Some("mx.partner.example")),
            ("{client_resolve}", Some("OK")),
            ("{tls_version}", None),
            ("{cipher}", None),
            ("{cipher_bits}", None),
            ("{verify}", None),
            ("{cert_subject}", None),
            ("{auth_type}", None),
            ("i", None),
        ],
    ),
    (
        "with TLS",
        &[
            ("{tls_version}", Some("TLSv1.3")),
            ("{cipher_bits}", Some("256")),
            ("{cert_subject}", Some("mx.partner.example")),
            ("{cert_issuer}", Some("Rig CA")),
            ("{verify}", None),
            ("{cn_subject}", None),
            ("{auth_ssf}", None),
            ("i", None),
        ],
    ),
    (
        "without a name",
        &[
            ("{client_addr}", Some("127.0.0.9")),
            ("{client_name}", Some("unknown")),
            ("{client_resolve}", Some("FAIL")),
        ],
    ),
];

/// What it offers, and which macros come with what, once the daemon has asked for its own.
fn tells(rig: &Rig) -> Result<()> {
    let mut tapped = None;
    // The daemon is elsewhere, and the tap where Postfix connects.
    let settings = "milter.listen = [\"unix:{dir}/pf/d.sock\"]";
    let mut pair = Pair::start(rig, "postfix-tells", settings, &[], |folder| {
        let folder = folder.join("pf");
        tapped = Some(tap(&folder.join("q/encr-milter/milter.sock"), &folder.join("d.sock"))?);
        Ok(())
    })?;
    let tapped = tapped.ok_or("no tap")?;
    sessions(rig, &pair)?;
    pair.records()?;
    let frames = wait::until("the last MAIL", || {
        let frames = tapped.frames();
        (frames.iter().filter(|frame| frame.kind == 'M').count() == AT_MAIL.len()).then_some(frames)
    })?;

    let offer = frames.iter().find(|frame| frame.kind == 'O').ok_or("no offer")?;
    let words = offer.payload.chunks_exact(4).filter_map(|word| word.try_into().ok());
    let words: Vec<u32> = words.map(u32::from_be_bytes).collect();
    demand(words == [6, 0x1ff, 0x1f_ffff], format!("the offer: {words:x?}"))?;
    let unasked = frames.iter().find(|frame| "CHTLNBU".contains(frame.kind));
    demand(unasked.is_none(), "a stage that was not asked for came")?;

    let at_mail: Vec<&Frame> = frames.iter().filter(|frame| frame.is_macros('M')).collect();
    demand(at_mail.len() == AT_MAIL.len(), "a MAIL without macros")?;
    for (frame, (what, told)) in at_mail.iter().zip(AT_MAIL) {
        for (name, value) in told {
            let is = frame.told('M', name);
            demand(is.as_deref() == *value, format!("{what}: {name} is {is:?}, was {value:?}"))?;
        }
        let version = frame.told('M', "v").unwrap_or_default();
        demand(version.starts_with("Postfix "), format!("{what}: v is {version:?}"))?;
    }
    // An empty list of ours silences no stage; so the queue id comes, with the recipient after one that was taken.
    let at_rcpt = frames.iter().filter(|frame| frame.is_macros('R'));
    let ids: Vec<bool> = at_rcpt.map(|frame| frame.told('R', "i").is_some()).collect();
    demand(ids == [false, false, true], format!("queue ids with RCPT: {ids:?}"))?;
    demand(frames.iter().any(|frame| frame.told('H', "{cipher_bits}").is_some()), "HELO has no macros")
}

/// The sessions of [`AT_MAIL`].
fn sessions(rig: &Rig, pair: &Pair) -> Result<()> {
    let mut client = pair.connect()?;
    client.say("MAIL FROM:<clear@partner.example>")?;
    for recipient in ["one@rig.example", "postmaster", "two@rig.example"] {
        client.say(&format!("RCPT TO:<{recipient}>"))?;
    }
    client.say("RSET")?;
    starttls(rig, &mut client, &Tls { cert: Some("signed".to_owned()), ..Tls::default() })?;
    client.say("MAIL FROM:<tls@partner.example>")?;
    client.say("RCPT TO:<one@rig.example>")?;
    client.say("DATA")?;
    client.say("Subject: a message\r\n\r\nof the rig\r\n.")?;
    client.say("QUIT")?;
    let mut nameless = pair.postfix.connect_from([127, 0, 0, 9].into())?;
    nameless.reply()?;
    nameless.say("HELO x.example")?;
    nameless.say("MAIL FROM:<>")?;
    nameless.say("QUIT").map(drop)
}

/// `non_smtpd_milters`: mail of the host itself is delivered, though its client would be refused in the clear.
fn local_mail(rig: &Rig) -> Result<()> {
    const TAG: &str = "postfix-local-mail";
    let main = ["non_smtpd_milters = unix:encr-milter/milter.sock"];
    let mut pair = Pair::start(rig, TAG, "", &main, |_| Ok(()))?;
    let message = "From: cron@rig.example\nTo: bob@rig.example\nSubject: local\n\nmail\n";
    pair.postfix.command("sendmail", &["-t", "-f", "cron@rig.example"], message)?;
    let lines = wait::until("its delivery", || {
        let lines = rig.syslog.of(TAG);
        lines.iter().any(|line| line.contains("status=sent")).then_some(lines)
    })?;
    demand(!lines.iter().any(|line| line.contains("milter")), lines.join("\n"))?;
    // The milter was there all the while: a client of the network is judged.
    let mut client = pair.connect()?;
    client.say("MAIL FROM:<anna@partner.example>")?;
    let reply = client.say("RCPT TO:<bob@rig.example>")?;
    demand(reply.code == 550, reply.text())?;
    client.say("QUIT")?;
    let records = pair.records()?;
    demand(records.len() == 1 && records.iter().all(|record| record["client_addr"] == "127.0.0.2"), {
        format!("{records:#?}")
    })
}

/// TLS from the first byte on, as on port 465, is TLS.
fn implicit_tls(rig: &Rig) -> Result<()> {
    let mut pair = Pair::start(rig, "postfix-implicit-tls", "", &[], |_| Ok(()))?;
    let mut client = pair.postfix.connect_for_tls([127, 0, 0, 2].into())?;
    client.handshake(&Tls { version: Some("1.3".to_owned()), ..Tls::default() }, &rig.certs)?;
    client.reply()?;
    client.say("EHLO mx.partner.example")?;
    client.say("MAIL FROM:<anna@partner.example>")?;
    let reply = client.say("RCPT TO:<bob@rig.example>")?;
    demand(reply.code == 250, reply.text())?;
    client.say("QUIT")?;
    let records = pair.records()?;
    let told: Vec<_> =
        records.iter().map(|record| (&record["tls_version"], &record["cipher_bits"])).collect();
    demand(told == [(&Value::from("TLSv1.3"), &Value::from(256))], format!("{records:#?}"))
}

/// Behind a proxy that tells of its clients before all else, a client is who the proxy says.
fn proxy_protocol(rig: &Rig) -> Result<()> {
    let main = ["smtpd_upstream_proxy_protocol = haproxy"];
    let mut pair = Pair::start(rig, "postfix-proxy-protocol", "", &main, |_| Ok(()))?;
    let mut client = pair.postfix.connect_from([127, 0, 0, 99].into())?;
    client.send(b"PROXY TCP4 127.0.0.2 127.0.0.25 40000 25\r\n")?;
    client.reply()?;
    client.say("EHLO mx.partner.example")?;
    client.say("MAIL FROM:<anna@partner.example>")?;
    let reply = client.say("RCPT TO:<bob@rig.example>")?;
    demand(reply.code == 550, reply.text())?;
    client.say("QUIT")?;
    let records = pair.records()?;
    let told: Vec<_> =
        records.iter().map(|record| (&record["client_name"], &record["client_resolve"])).collect();
    let wanted = (&Value::from("mx.partner.example"), &Value::from("OK"));
    demand(told == [wanted], format!("{records:#?}"))
}

/// `explain` and `simulate` judge the records of Postfix's sessions as the daemon did; its log `simulate` does not read,
/// and says so.
fn records_read_back(rig: &Rig) -> Result<()> {
    const TAG: &str = "postfix-records-read-back";
    let mut pair = Pair::start(rig, TAG, "", &[], |_| Ok(()))?;
    for tls in [
        None,
        Some(Tls { version: Some("1.2".to_owned()), cipher: Some("AES128-SHA256".to_owned()), cert: None }),
        Some(Tls::default()),
        Some(Tls { cert: Some("self-signed".to_owned()), ..Tls::default() }),
        Some(Tls { cert: Some("signed".to_owned()), ..Tls::default() }),
    ] {
        let mut client = pair.connect()?;
        if let Some(tls) = tls {
            starttls(rig, &mut client, &tls)?;
        }
        client.say("MAIL FROM:<anna@partner.example>")?;
        client.say("RCPT TO:<bob@rig.example>")?;
        client.say("QUIT")?;
    }
    let records = pair.records()?;
    let briefs: Vec<_> = records.iter().map(brief).collect();
    demand(
        briefs
            == [
                ("reject", "fail", "encryption too weak 0 less than 128"),
                ("accept", "fail", "not authenticated"),
                ("accept", "fail", "not authenticated"),
                ("accept", "fail", "not authenticated"),
                ("accept", "pass", ""),
            ],
        format!("{briefs:#?}"),
    )?;

    let policy = pair.daemon.folder.join("policy.toml");
    let lines = records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let mut explain = Command::new(&rig.daemon);
    explain.args(["explain", "--batch", "--policy"]).arg(&policy);
    let again = String::from_utf8_lossy(&run(&mut explain, &lines)?.stdout).into_owned();
    let again = again.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
    let again = again.map_err(|e| format!("a record of explain's: {e}"))?;
    demand(again.iter().map(brief).collect::<Vec<_>>() == briefs, format!("explain: {again:#?}"))?;

    let simulate = |log: &Path| {
        let mut simulate = Command::new(&rig.daemon);
        simulate.args(["simulate", "--json", "--policy"]).arg(&policy).arg("--").arg(log);
        let said = run(&mut simulate, "")?.stdout;
        serde_json::from_slice::<Value>(&said).map_err(|e| format!("simulate's answer: {e}"))
    };
    let judged = simulate(&pair.daemon.folder.join("decisions.jsonl"))?;
    demand(
        number(&judged, "/judged/messages") == u64::try_from(records.len()).ok()
            && number(&judged, "/changed") == Some(0),
        format!("{judged:#}"),
    )?;
    // As rsyslog writes it; the tag is the rig's own.
    let log = pair.daemon.folder.join("mail.log");
    let lines = rig.syslog.of(TAG);
    let lines = lines.iter().map(|line| format!("2026-11-22T02:07:27.000000+00:00 mail {line}\n"));
    fs::write(&log, lines.collect::<Vec<_>>().concat()).map_err(|e| format!("{}: {e}", log.display()))?;
    let told = simulate(&log)?;
    let notes = told.get("notes").map(Value::to_string).unwrap_or_default();
    demand(
        number(&told, "/judged/messages") == Some(0) && notes.contains("lines: Postfix's"),
        format!("{told:#}"),
    )
}

/// `doctor` finds nothing wrong with it, and a message that it begins is judged; what the snippet says of a daemon that is
/// down is held against the rules.
fn doctor(rig: &Rig) -> Result<()> {
    let pair = Pair::start(rig, "pf-doctor", "", &["milter_mail_macros = i"], |_| Ok(()))?;
    let found = pair.examine(rig)?;
    // The rig's certificates are young, and nothing was decided before: those are warnings.
    let is_wrong = |finding: &&String| finding.starts_with("problem") || finding.starts_with("not-looked");
    let wrong: Vec<&String> = found.iter().filter(is_wrong).collect();
    demand(wrong.is_empty(), format!("{wrong:#?}"))?;
    for so in [
        "warning when-down default_action = accept: while the daemon does not answer mail passes unjudged",
        "ok attached Postfix: smtpd_milters = { unix:encr-milter/milter.sock,",
        "ok macro-lists main.cf has milter_mail_macros: that is for other milters",
        "ok starttls ",
        "ok live a message begun and taken back came to the milter with what was negotiated (TLSv1.3, 256 bits)",
    ] {
        demand(found.iter().any(|finding| finding.starts_with(so)), format!("no {so:?}: {found:#?}"))?;
    }
    Ok(())
}

/// What an administrator can make Postfix say that is not so: `doctor` finds it, and it is as bad as that says.
fn untrue_macros(rig: &Rig) -> Result<()> {
    let main =
        ["milter_macro_defaults = cipher_bits=256, tls_version=TLSv1.3, cipher=X", "milter_macro_v = 8.17.1"];
    let mut pair = Pair::start(rig, "pf-untrue", "", &main, |_| Ok(()))?;
    let found = pair.examine(rig)?;
    for so in [
        "problem macro-values Postfix: milter_macro_defaults has a value for cipher_bits, tls_version, cipher:",
        "warning macro-values Postfix calls itself `8.17.1` (milter_macro_v)",
    ] {
        demand(found.iter().any(|finding| finding.starts_with(so)), format!("no {so:?}: {found:#?}"))?;
    }
    let mut client = pair.connect()?;
    client.say("MAIL FROM:<clear@partner.example>")?;
    client.say("RCPT TO:<user@rig.example>")?;
    client.say("QUIT")?;
    let records = pair.records()?;
    let record = records.iter().find(|record| record["sender"] == "clear@partner.example");
    let record = record.ok_or_else(|| format!("no record: {records:#?}"))?;
    demand(record["cipher_bits"] == 256 && record["verdict"] != "fail", format!("in the clear: {record:#}"))
}

fn number(value: &Value, place: &str) -> Option<u64> {
    value.pointer(place).and_then(Value::as_u64)
}

fn brief(record: &Value) -> (&str, &str, &str) {
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    (text("disposition"), text("verdict"), text("reason"))
}
