//! The milter at work, to look at: sessions of different strength, and a rule that ripens from watching to refusing
//! while they run. `integration/try.sh` builds it and gets what it needs.
//!
//! Promises: the daemon is the real one with the sample configuration, sm-mta is Debian's; see `rig` for what is not
//! touched. What is shown has happened: every reply is as the client got it, every decision as the daemon wrote it.

#![allow(clippy::print_stderr, reason = "this is how a program says what is wrong")]

#[allow(dead_code, reason = "the tests use the rest of it")]
mod rig;

use std::fs;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::signal::Signal;
use serde_json::Value;

use rig::daemon::Daemon;
use rig::edit::{Manner, edit};
use rig::sendmail::{Options, Sendmail};
use rig::smtp::{Client, Tls};
use rig::{Result, Rig, namespace, tool, wait};

const DAEMON_FILE: &str = include_str!("../config/encr-milter.toml");
const POLICY: &str = include_str!("../config/policy.toml");

fn main() -> ExitCode {
    let shown = if namespace::is_inside() { show() } else { namespace::enter().map(|never| match never {}) };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("try: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// A stage of the policy: what the administrator does to the rule, and how one knows that it has been noticed.
struct Chapter {
    title: &'static str,
    /// The modes of the rule, as they stand in the file.
    modes: &'static str,
    /// Words of the log that say so.
    noticed: &'static str,
    manner: Manner,
}

const CHAPTERS: [Chapter; 5] = [
    Chapter {
        title: "Just watch",
        modes: "observe = { min-bits = 128 }",
        noticed: "",
        manner: Manner::InPlace,
    },
    Chapter {
        title: "Defer what comes in the clear, and try 256 bits beside it",
        modes: "soft-fail = { min-bits = 128 }\nobserve = { min-bits = 256 }",
        noticed: "rule try-partner: soft-fail added",
        manner: Manner::Rename,
    },
    Chapter {
        title: "Refuse what is in the clear, defer below 256 bits",
        modes: "enforce = { min-bits = 128 }\nsoft-fail = { min-bits = 256 }",
        noticed: "rule try-partner: enforce added",
        manner: Manner::BackupFirst,
    },
    Chapter {
        title: "A slip of the pen: the last good policy stays",
        modes: "enforce = { min-bites = 256 }",
        noticed: "min-bites",
        manner: Manner::InPlace,
    },
    Chapter {
        title: "Mended: 256 bits for all",
        modes: "enforce = { min-bits = 256 }",
        noticed: "rule try-partner: enforce raised",
        manner: Manner::Symlink,
    },
];

/// A client, and how strong its session is.
struct Visitor {
    name: &'static str,
    address: &'static str,
    strength: &'static str,
    tls: Option<(&'static str, &'static str)>,
}

const VISITORS: [Visitor; 4] = [
    Visitor { name: "mail.other.example", address: "fd00::4", strength: "in the clear", tls: None },
    Visitor { name: "mail.partner.example", address: "fd00::3", strength: "in the clear", tls: None },
    Visitor {
        name: "mail.partner.example",
        address: "fd00::3",
        strength: "TLSv1.2, AES-128",
        tls: Some(("1.2", "ECDHE-RSA-AES128-GCM-SHA256")),
    },
    Visitor {
        name: "mail.partner.example",
        address: "fd00::3",
        strength: "TLSv1.3, AES-256",
        tls: Some(("1.3", "TLS_AES_256_GCM_SHA384")),
    },
];

/// One that stays connected from the first chapter to the last.
const STAYS: &str = "in the clear, connected all along";

fn show() -> Result<()> {
    let program = daemon_program()?;
    let rig = Rig::new(&program)?;
    let folder = tempfile::tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut stage = Stage::set(&rig, folder.path())?;
    let mut staying = stage.arrive(&VISITORS[1])?;
    let mut table = vec![Vec::new(); VISITORS.len() + 1];
    for (number, chapter) in (1..).zip(&CHAPTERS) {
        stage.turn_to(number, chapter)?;
        for (visitor, row) in VISITORS.iter().zip(&mut table) {
            let mut client = stage.arrive(visitor)?;
            row.push(stage.write(&mut client, visitor.name, visitor.strength)?);
            client.say("QUIT")?;
        }
        if let Some(row) = table.last_mut() {
            row.push(stage.write(&mut staying, VISITORS[1].name, STAYS)?);
        }
    }
    staying.say("QUIT")?;
    stage.close(&table)
}

/// It lies beside this example: `target/debug/encr-milter`, `target/debug/examples/try`.
fn daemon_program() -> Result<PathBuf> {
    let this = std::env::current_exe().map_err(|e| format!("where this program lies: {e}"))?;
    let daemon = this.ancestors().nth(2).unwrap_or(Path::new(".")).join("encr-milter");
    if daemon.exists() {
        Ok(daemon)
    } else {
        Err(format!("{} is not built: run integration/try.sh", daemon.display()))
    }
}

struct Stage<'a> {
    rig: &'a Rig,
    daemon: Daemon,
    sendmail: Sendmail,
    rules: PathBuf,
    decided: usize,
    paint: Paint,
}

impl<'a> Stage<'a> {
    fn set(rig: &'a Rig, folder: &Path) -> Result<Stage<'a>> {
        let paint =
            Paint { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
        // The sample policy as it is, and beside it the rule that this is about.
        let settings = toml::from_str(r#"policy.files = ["policy.toml", "try.toml"]"#);
        let settings = settings.map_err(|e| format!("settings: {e}"))?;
        let rules = folder.join("try.toml");
        fs::write(folder.join("policy.toml"), POLICY)
            .and_then(|()| fs::write(&rules, rule(CHAPTERS[0].modes)))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut daemon = Daemon::lay_out_over(DAEMON_FILE, &rig.daemon, folder, &settings)?;
        daemon.start().map_err(|e| format!("{e}\n{}", daemon.log.lines().join("\n")))?;
        let options =
            Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
        let sendmail = Sendmail::start(rig, folder, "sm-mta", &options)?;
        show_line(&format!("A private sm-mta with encr-milter attached at {}", daemon.listen().join(", ")));
        show_line(
            "Daemon file and policy are the samples of config/, and one rule more, edited while sessions run.",
        );
        show_line("← is what the client was told at RCPT, ⇒ the decision as the daemon recorded it.");
        Ok(Stage { rig, daemon, sendmail, rules, decided: 0, paint })
    }

    /// Edits the rule, waits until the daemon has noticed, and shows what it said.
    fn turn_to(&self, number: usize, chapter: &Chapter) -> Result<()> {
        show_line(&format!("\n{}", self.paint.bold(&format!("━━ {number}. {}", chapter.title))));
        for line in rule(chapter.modes).lines().skip(2) {
            show_line(&format!("   {} {line}", self.paint.dim("│")));
        }
        if !chapter.noticed.is_empty() {
            let mark = self.daemon.log.len();
            edit(&self.rules, chapter.manner, &rule(chapter.modes))?;
            let noticed = self.daemon.log.wait_for(mark, &[chapter.noticed.to_owned()])?;
            let done = self.daemon.log.wait_for(noticed, &["policy ".to_owned()])?;
            for line in self.daemon.log.lines().iter().take(done).skip(mark) {
                // Decisions are shown where they are made.
                if !line.contains("verdict=") {
                    show_line(&format!("   {}", self.paint.dim(&format!("log: {line}"))));
                }
            }
        }
        show_line("");
        Ok(())
    }

    fn arrive(&self, visitor: &Visitor) -> Result<Client> {
        let address: IpAddr = visitor.address.parse().map_err(|e| format!("{}: {e}", visitor.address))?;
        let mut client = self.sendmail.connect_from(address)?;
        client.reply()?;
        client.say(&format!("EHLO {}", visitor.name))?;
        if let Some((version, cipher)) = visitor.tls {
            client.say("STARTTLS")?;
            let tls = Tls { version: Some(version.to_owned()), cipher: Some(cipher.to_owned()), cert: None };
            client.handshake(&tls, &self.rig.certs)?;
            client.say(&format!("EHLO {}", visitor.name))?;
        }
        Ok(client)
    }

    /// Sends a message and shows what came of it. Gives the code of the reply to RCPT.
    fn write(&mut self, client: &mut Client, name: &str, strength: &str) -> Result<u16> {
        let domain = name.split_once('.').map_or(name, |(_, domain)| domain);
        client.say(&format!("MAIL FROM:<anna@{domain}>"))?;
        let answer = client.say("RCPT TO:<bob@rig.example>")?;
        if answer.code == 250 {
            client.say("DATA")?;
            client.say("Subject: hello\r\n\r\nhello\r\n.")?;
        } else {
            client.say("RSET")?;
        }
        show_line(&format!("   {} {strength}", self.paint.bold(&format!("{name:<20}"))));
        show_line(&format!("      ← {}", self.paint.by_code(answer.code, &answer.text())));
        let seen = self.decided;
        let records =
            wait::until("the decision", || self.daemon.decisions().ok().filter(|all| all.len() > seen))?;
        for record in records.iter().skip(seen) {
            show_line(&format!("      ⇒ {}", told(record)));
        }
        self.decided = records.len();
        Ok(answer.code)
    }

    /// Asks one of the daemon's own commands, and shows its answer.
    fn ask(&self, title: &str, command: &[&str]) -> Result<()> {
        let config = self.daemon.config();
        show_line(&format!(
            "\n{}",
            self.paint.bold(&format!("━━ {title}: encr-milter {}", command.join(" ")))
        ));
        let mut asked = Command::new(&self.rig.daemon);
        let answer = tool::run(asked.args(command).arg("-c").arg(config), "")?;
        for line in String::from_utf8_lossy(&answer.stdout).lines() {
            show_line(&format!("   {line}"));
        }
        Ok(())
    }

    /// The table of all answers, and the daemon's end.
    fn close(mut self, table: &[Vec<u16>]) -> Result<()> {
        show_line(&format!("\n{}", self.paint.bold("━━ All answers: by visitor, over the five policies")));
        let stays = (VISITORS[1].name, STAYS);
        let visitors = VISITORS.iter().map(|visitor| (visitor.name, visitor.strength)).chain([stays]);
        for ((name, strength), row) in visitors.zip(table) {
            let cells = row.iter().map(|code| format!("  {}", self.paint.by_code(*code, &code.to_string())));
            show_line(&format!("   {name:<21} {strength:<34}{}", cells.collect::<String>()));
        }
        self.daemon.signal(Signal::SIGTERM)?;
        let status = self.daemon.wait()?;
        self.ask("What its evidence says", &["report"])?;
        self.ask("Which rules are ripe", &["promote", "--check", "--all"])?;
        show_line(&format!(
            "\nencr-milter has ended on SIGTERM, {status}. Nothing of all this is left on the machine."
        ));
        Ok(())
    }
}

/// Shows a line. When nobody looks any more, as in `try.sh | head`, there is nothing left to do.
fn show_line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// The rule's file.
fn rule(modes: &str) -> String {
    format!("version = 1\n[[rule]]\nname = \"try-partner\"\nclient = [\"partner.example\"]\n{modes}\n")
}

/// A record in one line: what was found and done, in which mode, why, and by which rule of which policy.
fn told(record: &Value) -> String {
    let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or("-");
    format!(
        "{:<4}  {:<9}  {:<8}  {}by rule {} ({} {}) of policy {}",
        field("verdict"),
        field("mode"),
        field("disposition"),
        record.get("reason").and_then(Value::as_str).map(|reason| format!("{reason}, ")).unwrap_or_default(),
        field("rule"),
        field("side"),
        field("key"),
        field("policy"),
    )
}

/// Colours on a terminal, and none elsewhere.
struct Paint {
    colours: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn by_code(&self, code: u16, text: &str) -> String {
        self.with(
            if code < 400 {
                "32"
            } else if code < 500 {
                "33"
            } else {
                "31"
            },
            text,
        )
    }
}
