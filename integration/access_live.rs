//! One access map, twice in front of the same clients: as sendmail's own, and imported as our policy in front of a
//! sendmail whose access map is empty. The outcome is the same, and so are the words.
//!
//! Must not: compare codes further than their class; ours are our own.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::smtp::Tls;
use crate::rig::tool::run;
use crate::rig::{Result, Rig};

const TAG: &str = "access-map-live";

/// Names, their parents, addresses and prefixes of both families, every class of code, certificates, and what sendmail
/// accepts without a word.
const ACCESS: &[&str] = &[
    "TLS_Clt:partner.example          ENCR:256",
    "TLS_Clt:old.relay.partner.example PERM+ENCR:128",
    "TLS_Clt:six.partner.example      TEMP+VERIFY",
    "TLS_Clt:mail.partner.example     OK",
    "TLS_Clt:shouting.example         PERM+VERIFY:128+CN:mx.partner.example",
    "TLS_Clt:xn--mx-yka.example       ENCR:112+CN",
    "TLS_Clt:mx.notpartner.example    ENCR128",
    "TLS_Clt:mx.other.example         SKIP",
    "TLS_Clt:127.0.0.4                TEMP+ENCR:112+CI:/O=Rig+20Trust/CN=Rig+20CA",
    "TLS_Clt:127.0.0.9                PERM+ENCR:256",
    "TLS_Clt:[127.0.0.8]              TEMP+ENCR:256",
    "TLS_Clt:IPv6:fd00:0:0:7          VERIFY",
    "TLS_Clt:IPv6:fd00                PERM+ENCR:128",
    "TLS_Clt:                         ENCR:1",
];

/// The rig's clients: see rig/namespace.sh for their names.
pub(crate) const CLIENTS: &[&str] = &[
    "127.0.0.2",
    "127.0.0.3",
    "127.0.0.4",
    "127.0.0.5",
    "127.0.0.6",
    "127.0.0.7",
    "127.0.0.8",
    "127.0.0.9",
    "127.0.0.88",
    "127.0.0.25",
    "fd00::2",
    "fd00::3",
    "fd00::4",
    "fd00::9",
    "fd00:0:0:7::9",
];

/// A client's strength: in the clear, weak, strong, strong with a certificate of whom we trust, and of nobody.
const STRENGTHS: &[(&str, Option<Wish>)] = &[
    ("clear", None),
    ("weak", Some(("1.2", "AES128-SHA256", None))),
    ("strong", Some(("1.3", "TLS_AES_256_GCM_SHA384", None))),
    ("signed", Some(("1.3", "TLS_AES_256_GCM_SHA384", Some("signed")))),
    ("weak-signed", Some(("1.2", "AES128-SHA256", Some("signed")))),
    ("self-signed", Some(("1.3", "TLS_AES_256_GCM_SHA384", Some("self-signed")))),
];

/// TLS version, cipher, and the certificate's kind.
pub(crate) type Wish = (&'static str, &'static str, Option<&'static str>);

/// How one client fared: who it was, the class of the last reply, and that reply.
#[derive(Debug)]
struct Outcome {
    sender: String,
    class: u16,
    reply: String,
}

pub(crate) fn same_outcomes(rig: &Rig) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let inside = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display())).map(|()| path)
    };
    let access = ACCESS.iter().map(|line| (*line).to_owned()).collect();
    let options = Options { access, ..Options::default() };
    let by_sendmail = outcomes(rig, &Sendmail::start(rig, &inside("map")?, "access-by-sendmail", &options)?)?;

    let ours = inside("policy")?;
    let mut daemon = Daemon::lay_out(&rig.daemon, &ours, &toml::Table::new())?;
    let policy = import(rig, &ours)?;
    fs::write(ours.join("policy.toml"), &policy).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, &ours, "access-by-policy", &options)?;
    let by_policy = outcomes(rig, &sendmail)?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    let records = daemon.decisions()?;

    let mut faults = Vec::new();
    for (theirs, ours) in by_sendmail.iter().zip(&by_policy) {
        let record = records.iter().find(|record| record["sender"] == theirs.sender.as_str());
        let reason = record.and_then(|record| record["reason"].as_str()).unwrap_or_default();
        let same_words = theirs.class == 2 || theirs.reply.ends_with(&format!(" {reason}"));
        if theirs.class != ours.class || !same_words {
            let record = record.map(Value::to_string).unwrap_or_default();
            faults.push(format!(
                "{}\n    sendmail  {}\n    ours      {}\n    recorded  {record}",
                theirs.sender, theirs.reply, ours.reply
            ));
        }
    }
    for class in [2, 4, 5] {
        if !by_sendmail.iter().any(|outcome| outcome.class == class) {
            faults.push(format!("nobody got {class}xx"));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let of = by_sendmail.len();
    Err(format!("{} of {of} clients\n{}\npolicy:\n{policy}", faults.len(), faults.join("\n")))
}

/// The map's lines as a policy.
fn import(rig: &Rig, folder: &Path) -> Result<String> {
    let file = folder.join("access");
    fs::write(&file, ACCESS.join("\n") + "\n").map_err(|e| format!("{}: {e}", file.display()))?;
    let output = run(Command::new(&rig.daemon).args(["access", "import"]).arg(file), "")?;
    String::from_utf8(output.stdout).map_err(|e| format!("access import: {e}"))
}

/// Every client at every strength.
fn outcomes(rig: &Rig, sendmail: &Sendmail) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for client in CLIENTS {
        let source: IpAddr = client.parse().map_err(|e| format!("{client}: {e}"))?;
        for (strength, tls) in STRENGTHS {
            let sender = format!("{strength}-{}@sender.example", client.replace([':', '.'], "-"));
            let reply = attempt(rig, sendmail, source, *tls, &sender)
                .map_err(|fault| format!("{client} {strength}: {fault}"))?;
            let class = reply.chars().next().and_then(|class| class.to_digit(10)).unwrap_or_default();
            let class = u16::try_from(class).unwrap_or_default();
            outcomes.push(Outcome { sender, class, reply });
        }
    }
    Ok(outcomes)
}

/// One message up to its recipient; the last reply.
fn attempt(
    rig: &Rig,
    sendmail: &Sendmail,
    source: IpAddr,
    tls: Option<Wish>,
    sender: &str,
) -> Result<String> {
    let mut client = sendmail.connect_from(source)?;
    client.reply()?;
    client.say("EHLO client.example")?;
    if let Some((version, cipher, cert)) = tls {
        let tls = Tls {
            version: Some(version.to_owned()),
            cipher: Some(cipher.to_owned()),
            cert: cert.map(str::to_owned),
        };
        client.say("STARTTLS")?;
        client.handshake(&tls, &rig.certs)?;
        client.say("EHLO client.example")?;
    }
    let mut reply = client.say(&format!("MAIL FROM:<{sender}>"))?;
    if reply.code == 250 {
        reply = client.say("RCPT TO:<bob@rig.example>")?;
    }
    client.say("QUIT")?;
    Ok(reply.text())
}
