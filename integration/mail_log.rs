//! sendmail's mail log against the daemon's own records of the same sessions: what the log comes to is what was decided.
//!
//! Promises: sessions of every strength, in the clear, refused, authenticated, several messages in one, clients with and
//! without names, of both families; at the log level from which TLS is told (9) and where much more is (14). Where the
//! two must differ, it is said here why.

pub(crate) mod compare;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::sys::signal::Signal;
use openssl::base64;
use serde_json::Value;

use crate::access_live::{CLIENTS, Wish};
use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{AUTH_PASSWORD, AUTH_USER, Options, Sendmail};
use crate::rig::smtp::{Client, Tls};
use crate::rig::{Result, Rig, wait};

type Test = fn(&Rig) -> Result<()>;

/// All trials, by name.
pub(crate) const ALL: &[(&str, Test)] = &[
    ("mail-log-level-9", |rig| sessions(rig, "mail-log-level-9", 9)),
    ("mail-log-level-14", |rig| sessions(rig, "mail-log-level-14", 14)),
    ("mail-log-access-map", access_map),
];

const POLICY: &str = r#"
version = 1
[exempt]
networks = []
[[rule]]
name = "partner"
client = ["partner.example"]
soft-fail = { min-bits = 256 }
[[rule]]
name = "other"
client = ["127.0.0.4", "fd00::4", "127.0.0.88"]
enforce = { min-bits = 128 }
[[rule]]
name = "version"
sender = ["new.example"]
enforce = { min-version = "TLSv1.3" }
[[rule]]
name = "eve"
recipient = ["eve@rig.example"]
enforce = { min-bits = 128 }
[[rule]]
name = "verified"
client = ["mx.notpartner.example"]
observe = { verify = true }
[[rule]]
name = "everyone"
client = ["*"]
observe = { min-bits = 256 }
"#;

const STRENGTHS: &[Option<Wish>] = &[
    None,
    Some(("1.2", "NULL-SHA256", None)),
    Some(("1.2", "AES128-SHA256", None)),
    Some(("1.0", "AES256-SHA", None)),
    Some(("1.3", "TLS_AES_128_GCM_SHA256", Some("signed"))),
    Some(("1.3", "TLS_AES_256_GCM_SHA384", Some("self-signed"))),
];
const STRONG: Wish = ("1.3", "TLS_AES_256_GCM_SHA384", None);
const WEAK: Wish = ("1.2", "AES128-SHA256", None);

/// Whose messages do not come to DATA.
const GIVEN_UP: &str = "up@other.example";

/// The sm-mta, and how much of its log is due.
struct Stage<'r> {
    rig: &'r Rig,
    tag: &'static str,
    sendmail: Sendmail,
    /// Transactions that were begun, and recipients whose message was taken.
    transactions: usize,
    delivered: usize,
}

/// One client's session.
struct Session<'s, 'r> {
    stage: &'s mut Stage<'r>,
    client: Client,
}

impl<'r> Stage<'r> {
    fn start(
        rig: &'r Rig,
        tag: &'static str,
        folder: &Path,
        level: u8,
        options: Options,
    ) -> Result<Stage<'r>> {
        // Delivered at once, so that recipients stand in the log.
        let mut mc = vec![
            format!("define(`confLOG_LEVEL', `{level}')dnl"),
            "define(`confDELIVERY_MODE', `background')dnl".to_owned(),
        ];
        mc.extend(options.mc.iter().cloned());
        let sendmail = Sendmail::start(rig, folder, tag, &Options { mc, ..options })?;
        Ok(Stage { rig, tag, sendmail, transactions: 0, delivered: 0 })
    }

    fn session(&mut self, source: &str) -> Result<Session<'_, 'r>> {
        let source: IpAddr = source.parse().map_err(|e| format!("{source}: {e}"))?;
        let mut client = self.sendmail.connect_from(source)?;
        client.reply()?;
        let mut session = Session { stage: self, client };
        session.say("EHLO client.example")?;
        Ok(session)
    }

    /// The log, as soon as all of it is there.
    fn log(&self) -> Result<Vec<String>> {
        let complete = || {
            let lines = self.rig.syslog.whole(self.tag);
            let count = |part: &str, other: &str| {
                lines.iter().filter(|line| line.contains(part) && line.contains(other)).count()
            };
            let all = count(": from=", " relay=") >= self.transactions
                // The sink's program reads nothing, so that sendmail may try again.
                && count(": to=<", ", xdelay=") >= self.delivered;
            all.then_some(lines)
        };
        wait::until("the log to be complete", complete)
            .map_err(|fault| format!("{fault}\n{}", self.rig.syslog.whole(self.tag).join("\n")))
    }
}

impl Session<'_, '_> {
    fn say(&mut self, line: &str) -> Result<u16> {
        Ok(self.client.say(line)?.code)
    }

    fn starttls(&mut self, (version, cipher, cert): Wish) -> Result<()> {
        let tls = Tls {
            version: Some(version.to_owned()),
            cipher: Some(cipher.to_owned()),
            cert: cert.map(str::to_owned),
        };
        self.say("STARTTLS")?;
        self.client.handshake(&tls, &self.stage.rig.certs).map(drop)
    }

    fn authenticate(&mut self) -> Result<()> {
        let user = AUTH_USER.split('@').next().unwrap_or_default();
        let secret = format!("\0{user}\0{AUTH_PASSWORD}");
        match self.say(&format!("AUTH PLAIN {}", base64::encode_block(secret.as_bytes())))? {
            235 => Ok(()),
            code => Err(format!("AUTH: {code}")),
        }
    }

    /// MAIL and RCPT; how many recipients were taken.
    fn envelope(&mut self, from: &str, to: &[&str]) -> Result<usize> {
        self.stage.transactions += 1;
        let mut taken = 0;
        if self.say(&format!("MAIL FROM:{from}"))? == 250 {
            for recipient in to {
                taken += usize::from(self.say(&format!("RCPT TO:{recipient}"))? == 250);
            }
        }
        Ok(taken)
    }

    /// A message to whoever is taken.
    fn message(&mut self, from: &str, to: &[&str]) -> Result<()> {
        let taken = self.envelope(from, to)?;
        if taken == 0 {
            return self.say("RSET").map(drop);
        }
        self.say("DATA")?;
        match self.say("Subject: a message\r\n\r\nof the rig\r\n.")? {
            250 => self.stage.delivered += taken,
            code => return Err(format!("DATA: {code}")),
        }
        Ok(())
    }

    fn quit(mut self) -> Result<()> {
        self.say("QUIT").map(drop)
    }
}

fn sessions(rig: &Rig, tag: &'static str, level: u8) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &toml::Table::new())?;
    let file = folder.path().join("policy.toml");
    fs::write(&file, POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let mut stage = Stage::start(rig, tag, folder.path(), level, options)?;
    play(&mut stage)?;
    let lines = stage.log()?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    let records = daemon.decisions()?;

    let policy = compare::policy(&file)?;
    let (judged, tally) = compare::judged(&policy, &lines, true)?;
    // Of a transaction that the client gave up the log tells no recipients, or nothing that the daemon was asked.
    let given_up = |record: &Value| record["sender"] == GIVEN_UP;
    let mut faults = compare::compare(&records, &judged, &given_up, &|field, theirs, ours| match field {
        // From level 12 on.
        "cn_subject" | "cert_subject" | "cert_issuer" => level < 12 && ours[field].is_null(),
        // Too long for the log, and so not told.
        "sender" => theirs[field].as_str().is_some_and(|sender| sender.len() >= 198) && ours[field].is_null(),
        _ => false,
    });
    let (messages, by_message) = compare::judged(&policy, &lines, false)?;
    if messages.len() != stage.transactions {
        faults.push(format!("{} messages in the log, {} were begun", messages.len(), stage.transactions));
    }
    if tally.not_joined + tally.not_understood + tally.inbound.unknown + by_message.inbound.unknown > 0 {
        faults.push(format!("{tally:?}"));
    }
    told(&faults, &lines)
}

/// Every client at every strength, and what a client may do besides.
fn play(stage: &mut Stage<'_>) -> Result<()> {
    let all = ["<bob@rig.example>", "<eve@rig.example>"];
    for client in CLIENTS {
        for strength in STRENGTHS {
            let mut session = stage.session(client)?;
            if let Some(wish) = strength {
                session.starttls(*wish)?;
                session.say("EHLO client.example")?;
            }
            session.message("<carl@other.example>", &all)?;
            session.message("<anna@new.example>", &all)?;
            session.quit()?;
        }
    }
    let bob = ["<bob@rig.example>"];
    // In the clear, then STARTTLS without another EHLO, then with one, then with HELO.
    let mut session = stage.session("127.0.0.5")?;
    session.message("<clear@other.example>", &bob)?;
    session.starttls(WEAK)?;
    session.message("<>", &bob)?;
    session.say("EHLO client.example")?;
    session.message("<again@other.example>", &bob)?;
    session.say("HELO client.example")?;
    session.message("<helo@other.example>", &bob)?;
    session.quit()?;
    // Authenticated, in the clear and not, after a message that was not.
    for strength in [None, Some(WEAK)] {
        let mut session = stage.session("127.0.0.4")?;
        if let Some(wish) = strength {
            session.starttls(wish)?;
            session.say("EHLO client.example")?;
        }
        session.message("<before@other.example>", &bob)?;
        session.authenticate()?;
        session.message("<after@other.example>", &all)?;
        session.say("HELO client.example")?;
        session.message("<helo@other.example>", &all)?;
        session.quit()?;
    }
    // Given up: after MAIL, after RCPT, by going away.
    for (last, goes) in [("RSET", false), ("RSET", true), ("NOOP", true)] {
        let mut session = stage.session("127.0.0.2")?;
        session.starttls(STRONG)?;
        session.say("EHLO client.example")?;
        let to: &[&str] = if goes { &all } else { &[] };
        session.envelope(&format!("<{GIVEN_UP}>"), to)?;
        session.say(last)?;
        if last == "NOOP" {
            session.client.drop_connection(false)?;
        } else {
            session.quit()?;
        }
    }
    // Refused, but for postmaster; nobody asked for.
    let mut session = stage.session("127.0.0.2")?;
    session.message("<up@partner.example>", &["<bob@rig.example>", "<postmaster>"])?;
    session.envelope("<nobody@partner.example>", &[])?;
    session.say("RSET")?;
    for odd in ["<\"a b, size=1\"@x.example>", "carl@x.example", "<\"q\\\\\\\"\"@x.example>"] {
        session.message(odd, &bob)?;
    }
    session.quit()?;
    // A sender too long for the log.
    let long = format!("<{}@other.example>", "long.".repeat(45).trim_end_matches('.'));
    let mut session = stage.session("127.0.0.5")?;
    session.message(&long, &bob)?;
    session.quit()
}

const ACCESS: &[&str] =
    &["TLS_Clt:127.0.0.3 ENCR:256", "TLS_Clt:mx.other.example PERM+VERIFY", "From:spam@other.example REJECT"];

/// Where sendmail's own rules refuse, the daemon is not asked: the log tells of it all the same.
fn access_map(rig: &Rig) -> Result<()> {
    let tag = "mail-log-access-map";
    let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let file = folder.path().join("policy.toml");
    fs::write(&file, POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    let access = ACCESS.iter().map(|line| (*line).to_owned()).collect();
    let mut stage = Stage::start(rig, tag, folder.path(), 9, Options { access, ..Options::default() })?;
    let bob = ["<bob@rig.example>"];
    for (client, strength, refused) in [
        ("127.0.0.3", None, false),
        ("127.0.0.3", Some(WEAK), true),
        ("127.0.0.3", Some(STRONG), false),
        ("127.0.0.4", None, false),
        ("127.0.0.4", Some(STRONG), true),
    ] {
        let mut session = stage.session(client)?;
        if let Some(wish) = strength {
            session.starttls(wish)?;
            session.say("EHLO client.example")?;
        }
        if refused {
            // Whatever is said, the answer is the same: there is no transaction.
            session.say("MAIL FROM:<carl@other.example>")?;
        } else {
            session.message("<carl@other.example>", &bob)?;
        }
        session.quit()?;
    }
    let mut session = stage.session("127.0.0.5")?;
    session.message("<spam@other.example>", &bob)?;
    // Refused, and without RSET the next one has its queue id.
    session.say("MAIL FROM:<spam@other.example>")?;
    session.message("<carl@other.example>", &bob)?;
    session.quit()?;
    let lines = stage.log()?;
    let (records, tally) = compare::judged(&compare::policy(&file)?, &lines, false)?;
    let short = records.iter().map(|record| {
        let word = |field: &str| record[field].as_str().unwrap_or("-");
        format!(
            "{} {} {} {}",
            word("client_addr"),
            record["cipher_bits"],
            word("sender"),
            word("disposition")
        )
    });
    let mut short: Vec<String> = short.collect();
    short.sort_unstable();
    let expected = [
        "127.0.0.3 0 carl@other.example tempfail",
        "127.0.0.3 128 - tempfail",
        "127.0.0.3 256 carl@other.example accept",
        "127.0.0.4 0 carl@other.example reject",
        "127.0.0.4 256 - accept",
        "127.0.0.5 0 carl@other.example accept",
    ];
    let mut faults = Vec::new();
    if short != expected || (tally.refused_sessions, tally.refused_otherwise) != (2, 2) {
        faults.push(format!("{short:#?} {tally:?}"));
    }
    told(&faults, &lines)
}

fn told(faults: &[String], lines: &[String]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("{}\n--- sm-mta's log\n{}", faults.join("\n"), lines.join("\n")))
}

/// What outbound trials share with these: the log's records against the daemon's.
pub(crate) fn agree(
    policy: &Path,
    lines: &[String],
    daemon: &[Value],
    each: bool,
    excuse: compare::Excuse<'_>,
) -> Result<()> {
    let (judged, tally) = compare::judged(&compare::policy(policy)?, lines, each)?;
    let outbound: Vec<Value> =
        judged.into_iter().filter(|record| record["direction"] == "outbound").collect();
    let mut faults = compare::compare(daemon, &outbound, &|_| false, excuse);
    if tally.not_understood > 0 {
        faults.push(format!("{tally:?}"));
    }
    told(&faults, lines)
}
