//! Asks sendmail's own rulesets, with `sendmail -bt`: what they say of a session under a given access map.
//!
//! Promises: the map is made as an administrator makes it, by makemap from its text; hundreds of cases go through one
//! process; an answer that cannot be read is a fault, not an acceptance. Must not: know anything of the daemon.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::rig::tool::{run, run_allowing};
use crate::rig::{Result, Rig};

const MC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rulesets/bt.mc");

/// makemap keeps the first of two equal keys, leaves out what is no entry, and says so with EX_DATAERR.
const DATA_ERROR: i32 = 65;

/// One session: macros without braces, and `recipient`. The names are those of the decision record too.
pub(crate) type Case = BTreeMap<&'static str, String>;

/// A ruleset, by the tag of its lines in the access map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruleset {
    Client,
    Server,
    Rcpt,
}

impl Ruleset {
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Client => "TLS_Clt",
            Self::Server => "TLS_Srv",
            Self::Rcpt => "TLS_Rcpt",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Client => "tls_client",
            Self::Server => "tls_server",
            Self::Rcpt => "tls_rcpt",
        }
    }

    fn argument(self, case: &Case) -> String {
        let of = |name| case.get(name).cloned().unwrap_or_default();
        match self {
            Self::Client => format!("{} $| MAIL", of("verify")),
            Self::Server if of("verify").is_empty() => "NOTHING".to_owned(),
            Self::Server => of("verify"),
            Self::Rcpt => of("recipient"),
        }
    }
}

/// What is done with the mail, whoever says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    /// The class of the code, 4 or 5, and the text after it with single blanks.
    Refused(char, String),
}

pub(crate) struct Asker<'a> {
    rig: &'a Rig,
    folder: TempDir,
}

impl Asker<'_> {
    pub(crate) fn new(rig: &Rig, perm_err: bool) -> Result<Asker<'_>> {
        let folder = tempfile::tempdir().map_err(|e| format!("a folder: {e}"))?;
        let mut m4 = Command::new("m4");
        m4.arg(format!("-DRIG_CF={}", rig.sendmail_root.join("usr/share/sendmail/cf").display()))
            .arg(format!("-DRIG_DIR={}", folder.path().display()));
        if perm_err {
            m4.arg("-DRIG_PERM_ERR");
        }
        let cf = run(m4.arg(MC), "")?.stdout;
        fs::create_dir(folder.path().join("queue"))
            .and_then(|()| fs::write(folder.path().join("service.switch"), "hosts files\n"))
            .and_then(|()| fs::write(folder.path().join("statistics"), ""))
            .and_then(|()| fs::write(folder.path().join("sendmail.cf"), cf))
            .map_err(|e| format!("{}: {e}", folder.path().display()))?;
        Ok(Asker { rig, folder })
    }

    fn program(&self, name: &str) -> Command {
        let path: PathBuf = self.rig.sendmail_root.join("usr/libexec/sendmail").join(name);
        Command::new(path)
    }

    /// What the ruleset says of each case under this map.
    pub(crate) fn ask(&self, map: &str, ruleset: Ruleset, cases: &[Case]) -> Result<Vec<Answer>> {
        let mut makemap = self.program("makemap");
        makemap.args(["-C", "/dev/null", "hash"]).arg(self.folder.path().join("access"));
        run_allowing(&mut makemap, map, &[DATA_ERROR])?;

        let mut input = String::new();
        for case in cases {
            for (name, value) in case.iter().filter(|(name, _)| **name != "recipient") {
                let _ = writeln!(input, ".D{{{name}}}{value}");
            }
            let _ = writeln!(input, "Translate,{} {}", ruleset.name(), ruleset.argument(case));
        }
        let mut sendmail = self.program("sendmail");
        sendmail.arg("-bt").arg("-C").arg(self.folder.path().join("sendmail.cf"));
        let output = run(&mut sendmail, &input)?.stdout;
        let output = String::from_utf8_lossy(&output);
        let answers = read(&output, ruleset)?;
        if answers.len() == cases.len() {
            return Ok(answers);
        }
        Err(format!("sendmail -bt has answered {} of {} cases:\n{output}", answers.len(), cases.len()))
    }
}

/// The answers of a whole dialogue: the last value that the ruleset returns, for each call of Translate.
fn read(output: &str, ruleset: Ruleset) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    let mut last = None;
    for line in output.lines() {
        let line = line.trim_start_matches(['>', ' ']);
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Translate"), Some("input:")) => answers.extend(last.take()),
            (Some(name), Some("returns:")) if name == ruleset.name() => {
                let value = line.split_once("returns:").map_or("", |(_, value)| value);
                last = Some(answer(value).ok_or_else(|| format!("no answer of a ruleset: {line}"))?);
            }
            _ => {}
        }
    }
    answers.extend(last);
    Ok(answers)
}

/// `$# error $@ 4 . 7 . 0 $: 454 " encryption too weak " 56 " less than " 112` is a refusal; what calls no mailer is none.
fn answer(value: &str) -> Option<Answer> {
    let Some(refusal) = value.trim_start().strip_prefix("$# error ") else {
        return Some(Answer::Accepted);
    };
    let reply = joined(refusal.split_once("$:")?.1);
    let (code, text) = reply.trim().split_once(' ')?;
    let class = code.chars().next().filter(|class| matches!(class, '4' | '5') && code.len() == 3)?;
    Some(Answer::Refused(class, single_blanks(text)))
}

/// Puts tokens together as sendmail does for a reply: strings without their quotes, a blank only between two words.
fn joined(tokens: &str) -> String {
    let mut out = String::new();
    let mut after_word = false;
    let mut rest = tokens.trim();
    while !rest.is_empty() {
        let (token, word);
        if let Some(string) = rest.strip_prefix('"') {
            (token, rest) = string.split_once('"').unwrap_or((string, ""));
            word = false;
        } else {
            (token, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            word = !matches!(
                token.as_bytes(),
                [b'.' | b':' | b'%' | b'@' | b'!' | b'^' | b'/' | b'[' | b']' | b'+']
            );
        }
        if word && after_word {
            out.push(' ');
        }
        out.push_str(token);
        after_word = word;
        rest = rest.trim_start();
    }
    out
}

pub(crate) fn single_blanks(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}
