//! Plays one case: lays it out, does its steps, and says what was not as expected.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;
use openssl::base64;

use super::check::{self, Answer};
use super::postfix;
use super::schema::{Action, Case, Edit, Expect, Message, Step};
use crate::rig::daemon::{Daemon, merge};
use crate::rig::edit::edit;
use crate::rig::mta::{Kind, Mta};
use crate::rig::sendmail::{AUTH_PASSWORD, AUTH_USER, Options};
use crate::rig::smtp::{Client, Reply, Tls};
use crate::rig::{Result, Rig, wait};

/// Plays a case against sendmail. The tag names it among others that run beside it.
pub(crate) fn play(rig: &Rig, tag: &str, case: &Case) -> Result<()> {
    play_on(Kind::Sendmail, rig, tag, case)
}

/// Plays a case against Postfix, as it is there.
pub(crate) fn play_on_postfix(rig: &Rig, tag: &str, case: Case) -> Result<()> {
    play_on(Kind::Postfix, rig, tag, &postfix::translated(case)?)
}

fn play_on(kind: Kind, rig: &Rig, tag: &str, case: &Case) -> Result<()> {
    let folder =
        tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder for {tag}: {e}"))?;
    let mut stage = Stage::set(kind, rig, tag, folder.path(), case)?;
    stage.perform().map_err(|fault| {
        let mut report = format!("{}\n\n{fault}\n", case.about);
        let sides = [
            ("session", &stage.transcript),
            ("the daemon's log", &stage.daemon.log.lines()),
            ("the MTA's log", &rig.syslog.of(tag)),
        ];
        for (title, lines) in sides {
            let _ = write!(report, "\n--- {title}\n{}\n", lines.join("\n"));
        }
        report
    })
}

/// All that takes part in one case.
struct Stage<'a> {
    rig: &'a Rig,
    case: &'a Case,
    daemon: Daemon,
    mta: Mta,
    clients: BTreeMap<&'a str, Client>,
    /// What was said to each RCPT.
    answers: Vec<Answer>,
    transcript: Vec<String>,
    /// Where the daemon's log stood at the last edit, signal or start, or after the line that was waited for since.
    mark: usize,
}

impl<'a> Stage<'a> {
    fn set(kind: Kind, rig: &'a Rig, tag: &str, folder: &Path, case: &'a Case) -> Result<Stage<'a>> {
        let places = [
            ("{dir}", folder.display().to_string()),
            ("{port}", rig.port().to_string()),
            ("{port2}", rig.port().to_string()),
        ];
        let fill =
            |text: &str| places.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));

        lay_out_files(folder, case).map_err(|e| format!("the case's files: {e}"))?;
        let settings = fill(&case.daemon.to_string());
        let settings = settings.parse().map_err(|e| format!("the daemon's settings: {e}"))?;
        let mut all = kind.settings(folder)?;
        merge(&mut all, &settings);
        let mut daemon = Daemon::lay_out(&rig.daemon, folder, &all)?;
        if !case.starts_stopped {
            daemon.start().map_err(|e| format!("{e}\n{}", daemon.log.lines().join("\n")))?;
        }

        let mut options = Options {
            attach: case.sendmail.attach.iter().map(|text| fill(text)).collect(),
            mc: case.sendmail.mc.iter().map(|text| fill(text)).collect(),
            ..case.sendmail.clone()
        };
        if options.attach.is_empty() {
            options.attach.extend(daemon.listen().first().cloned());
        }
        let main = case.postfix.as_ref().map(|postfix| postfix.main.as_slice()).unwrap_or_default();
        let mta = kind.start(rig, folder, tag, &options, main)?;
        Ok(Stage {
            rig,
            case,
            daemon,
            mta,
            clients: BTreeMap::new(),
            answers: Vec::new(),
            transcript: Vec::new(),
            mark: 0,
        })
    }

    fn perform(&mut self) -> Result<()> {
        for (number, step) in (1..).zip(&self.case.steps) {
            self.step(step).map_err(|fault| format!("step {number}, {}: {fault}", step.action))?;
        }
        self.clients.clear();
        self.end_daemon()?;
        let mut faults = check::records(&self.case.records, &self.daemon.decisions()?, Some(&self.answers));
        for (words, count) in &self.case.log_counts {
            let lines = self.daemon.log.lines();
            let found = lines.iter().filter(|line| line.contains(words)).count();
            if found != *count {
                faults.push(format!("expected {count} log lines with {words:?}, there are {found}"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// Only when it has ended is its decisions file complete.
    fn end_daemon(&mut self) -> Result<()> {
        if self.daemon.is_running() {
            self.daemon.signal(Signal::SIGTERM)?;
            self.exit(self.case.exit)?;
        }
        Ok(())
    }

    fn exit(&mut self, code: i32) -> Result<()> {
        let status = self.daemon.wait()?;
        if status.code() == Some(code) {
            Ok(())
        } else {
            Err(format!("expected exit code {code}, it is {status}"))
        }
    }

    fn step(&mut self, step: &'a Step) -> Result<()> {
        match &step.action {
            Action::Connect(from) => self.connect(step, from),
            Action::StartTls(tls) => self.starttls(step, tls),
            Action::Ehlo(name) => self.command(step, &format!("EHLO {name}"), "250"),
            Action::Auth(how) => self.auth(step, how),
            Action::Mail(from) => self.command(step, &format!("MAIL FROM:{from}"), "250 2.1.0"),
            Action::Rcpt(to) => self.command(step, &format!("RCPT TO:{to}"), "250 2.1.5"),
            Action::Data(text) => self.data(step, text),
            Action::Say(line) => self.command(step, line, "2"),
            Action::Message(message) => self.message(step, message),
            Action::Pipeline(lines) => self.pipeline(step, lines),
            Action::Drop(how) => self.drop_client(&step.on, how),
            Action::Decided(count) => self.decided(*count),
            Action::Edit(edit) => self.edit(edit),
            Action::Signal(name) => self.signal(name),
            Action::Start(wait) => self.start(*wait),
            Action::Exit(code) => self.exit(*code),
            Action::Listening(yes) => self.daemon.wait_listening(*yes),
            Action::Log => self.log(step),
        }
    }

    fn client(&mut self, on: &str) -> Result<&mut Client> {
        self.clients.get_mut(on).ok_or_else(|| format!("no connection {on:?}"))
    }

    fn note(&mut self, on: &str, who: &str, text: &str) {
        for line in text.lines() {
            self.transcript.push(format!("{on}{who} {line}"));
        }
    }

    /// Sends a line, waits for the reply, and keeps both for the report.
    fn ask(&mut self, on: &str, line: &str) -> Result<Reply> {
        self.note(on, ">", line);
        let reply = self.client(on)?.say(line)?;
        self.heard(on, line, &reply);
        Ok(reply)
    }

    fn heard(&mut self, on: &str, line: &str, reply: &Reply) {
        self.note(on, "<", &reply.text());
        if let Some(recipient) = line.strip_prefix("RCPT TO:") {
            self.answers.push(Answer { recipient: recipient.to_owned(), reply: reply.text() });
        }
    }

    fn command(&mut self, step: &Step, line: &str, success: &str) -> Result<()> {
        let reply = self.ask(&step.on, line)?;
        expected(step, &reply, success)
    }

    fn connect(&mut self, step: &'a Step, from: &str) -> Result<()> {
        let mut client = match from {
            "submission" => self.mta.submit()?,
            address => {
                let address: IpAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
                self.mta.connect_from(address)?
            }
        };
        self.note(&step.on, ">", &format!("(connect from {from})"));
        let reply = client.reply()?;
        self.heard(&step.on, "", &reply);
        self.clients.insert(&step.on, client);
        expected(step, &reply, "220")
    }

    fn starttls(&mut self, step: &Step, tls: &Tls) -> Result<()> {
        let reply = self.ask(&step.on, "STARTTLS")?;
        expected(step, &reply, "220")?;
        if reply.code == 220 {
            let rig = self.rig;
            let strength = self.client(&step.on)?.handshake(tls, &rig.certs)?;
            self.note(&step.on, " ", &format!("({strength})"));
        }
        Ok(())
    }

    fn auth(&mut self, step: &Step, how: &str) -> Result<()> {
        let line = match how {
            "plain" => {
                let user = AUTH_USER.split('@').next().unwrap_or_default();
                let secret = format!("\0{user}\0{AUTH_PASSWORD}");
                format!("AUTH PLAIN {}", base64::encode_block(secret.as_bytes()))
            }
            "wrong" => format!("AUTH PLAIN {}", base64::encode_block(b"\0nobody\0nothing")),
            "external" => "AUTH EXTERNAL =".to_owned(),
            other => {
                return Err(format!("no way {other:?} to authenticate: there are plain, wrong, external"));
            }
        };
        self.command(step, &line, "235")
    }

    fn data(&mut self, step: &Step, text: &str) -> Result<()> {
        let go = self.ask(&step.on, "DATA")?;
        let reply = if go.code == 354 { self.ask(&step.on, &format!("{text}\r\n."))? } else { go };
        expected(step, &reply, "250 2.0.0")
    }

    fn message(&mut self, step: &Step, message: &Message) -> Result<()> {
        let accepted = |reply: &Reply| starts(reply, "250");
        accepted(&self.ask(&step.on, &format!("MAIL FROM:{}", message.from))?)?;
        for to in &message.to {
            accepted(&self.ask(&step.on, &format!("RCPT TO:{to}"))?)?;
        }
        self.data(step, "Subject: a message\r\n\r\nof the rig")
    }

    fn pipeline(&mut self, step: &Step, lines: &[String]) -> Result<()> {
        let Some(Expect::Replies(expected)) = &step.expects else {
            return Err("no replies expected".to_owned());
        };
        let bytes = lines.join("\r\n") + "\r\n";
        self.client(&step.on)?.send(bytes.as_bytes())?;
        for (line, expected) in lines.iter().zip(expected) {
            self.note(&step.on, ">", line);
            let reply = self.client(&step.on)?.reply()?;
            self.heard(&step.on, line, &reply);
            starts(&reply, expected).map_err(|fault| format!("{line}: {fault}"))?;
        }
        Ok(())
    }

    fn drop_client(&mut self, on: &str, how: &str) -> Result<()> {
        let client = self.clients.remove(on).ok_or_else(|| format!("no connection {on:?}"))?;
        self.note(on, ">", &format!("({how})"));
        match how {
            "reset" => client.drop_connection(true),
            "close" => client.drop_connection(false),
            other => Err(format!("no way {other:?} to go: there are reset and close")),
        }
    }

    fn decided(&mut self, count: usize) -> Result<()> {
        wait::until(&format!("{count} records"), || match self.daemon.decisions() {
            Ok(records) if records.len() >= count => Some(Ok(())),
            // Half a line may be there while it is being written.
            Ok(_) | Err(_) => None,
        })?
    }

    fn edit(&mut self, change: &Edit) -> Result<()> {
        let text = match &change.to {
            None => "",
            Some(name) => self.case.texts.get(name).ok_or_else(|| format!("no text {name:?}"))?,
        };
        self.mark = self.daemon.log.len();
        edit(&self.daemon.folder.join(&change.file), change.how, text)
    }

    fn signal(&mut self, name: &str) -> Result<()> {
        let signal = match name {
            "HUP" => Signal::SIGHUP,
            "TERM" => Signal::SIGTERM,
            "KILL" => Signal::SIGKILL,
            "INT" => Signal::SIGINT,
            other => return Err(format!("no signal {other:?} here: there are HUP, TERM, KILL, INT")),
        };
        self.mark = self.daemon.log.len();
        self.daemon.signal(signal)?;
        // Nobody can say more about it: its end is what a later step wants to start from.
        if signal == Signal::SIGKILL { self.daemon.wait().map(drop) } else { Ok(()) }
    }

    fn log(&mut self, step: &Step) -> Result<()> {
        let Some(Expect::Log(parts)) = &step.expects else {
            return Err("no words to wait for".to_owned());
        };
        self.mark = self.daemon.log.wait_for(self.mark, parts)?;
        Ok(())
    }

    fn start(&mut self, wait: bool) -> Result<()> {
        self.mark = self.daemon.log.len();
        if wait { self.daemon.start() } else { self.daemon.spawn() }
    }
}

/// Writes what stands beside the daemon file from the start.
fn lay_out_files(folder: &Path, case: &Case) -> std::io::Result<()> {
    for link in &case.linked_folders {
        let target = folder.join(format!("{link}.v0"));
        fs::create_dir_all(&target)?;
        symlink(&target, folder.join(link))?;
    }
    let policy = case.policy.as_ref().map(|text| ("policy.toml", text));
    let files = case.files.iter().map(|(name, text)| (name.as_str(), text));
    for (name, text) in files.chain(policy) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// Holds a reply against what the step says, or else against what success looks like.
fn expected(step: &Step, reply: &Reply, success: &str) -> Result<()> {
    match &step.expects {
        Some(Expect::Reply(whole)) if *whole == reply.text() => Ok(()),
        Some(Expect::Reply(whole)) => Err(differs(whole, reply)),
        Some(Expect::Starts(beginning)) => starts(reply, beginning),
        Some(Expect::Replies(_) | Expect::Log(_)) => Err("an expectation of another kind of step".to_owned()),
        None => starts(reply, success),
    }
}

fn starts(reply: &Reply, beginning: &str) -> Result<()> {
    if reply.text().starts_with(beginning) { Ok(()) } else { Err(differs(beginning, reply)) }
}

fn differs(wanted: &str, reply: &Reply) -> String {
    format!("\n  expected  {wanted}\n  the reply {}", reply.text().replace('\n', "\n            "))
}
