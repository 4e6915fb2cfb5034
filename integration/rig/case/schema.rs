//! What a case file may hold. Every field that is not listed here is an error.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use toml::Table;

use crate::rig::Result;
use crate::rig::edit::Manner;
use crate::rig::sendmail::Options;
use crate::rig::smtp::Tls;

/// One case file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Case {
    /// What the case shows, in a sentence.
    pub(crate) about: String,
    /// `policy.toml`, which stands beside the daemon file.
    pub(crate) policy: Option<String>,
    /// Other files that stand there from the start.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Folders for `files` that are symlinks from the start.
    #[serde(default)]
    pub(crate) linked_folders: Vec<String>,
    /// Texts that edits refer to.
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, String>,
    /// Settings laid over the rig's daemon file. `{dir}` is its folder.
    #[serde(default)]
    pub(crate) daemon: Table,
    #[serde(default)]
    pub(crate) sendmail: Options,
    /// It is played against Postfix too; what differs there beyond what always does.
    #[serde(default)]
    pub(crate) postfix: Option<OnPostfix>,
    /// The daemon is not started before the steps are.
    #[serde(default)]
    pub(crate) starts_stopped: bool,
    pub(crate) steps: Vec<Step>,
    /// The decision records, all of them, in order. A field that is not named may be anything; one that is named in
    /// `absent` must not be there.
    pub(crate) records: Vec<Table>,
    /// How many lines of the daemon's log hold these words in the end.
    #[serde(default)]
    pub(crate) log_counts: BTreeMap<String, usize>,
    /// The daemon's exit code in the end.
    #[serde(default)]
    pub(crate) exit: i32,
}

/// What is otherwise where the MTA is Postfix. What always is, is in `postfix.rs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct OnPostfix {
    /// It is about what only Postfix does, and not played against sendmail.
    pub(crate) only: bool,
    /// Lines at the end of its main.cf.
    pub(crate) main: Vec<String>,
    /// The beginnings of replies that are others, by the number of the step.
    pub(crate) replies: BTreeMap<String, String>,
    /// Fields of records that are others, by the number of the record.
    pub(crate) records: BTreeMap<String, Table>,
}

impl Case {
    pub(crate) fn parse(text: &str) -> Result<Case> {
        let case: Case = toml::from_str(text).map_err(|e| e.to_string())?;
        let expects = !case.records.is_empty() || case.steps.iter().any(|step| step.expects.is_some());
        if expects { Ok(case) } else { Err("this case expects nothing, so it could not fail".to_owned()) }
    }
}

/// One step: something is done, and some reply comes.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Line")]
pub(crate) struct Step {
    /// Which connection, where a case has several.
    pub(crate) on: String,
    pub(crate) action: Action,
    /// What the case file says of the reply. Where it says nothing, it must be the one that success has.
    pub(crate) expects: Option<Expect>,
}

#[derive(Debug)]
pub(crate) enum Expect {
    /// The whole reply.
    Reply(String),
    /// Its beginning.
    Starts(String),
    /// The beginnings of several.
    Replies(Vec<String>),
    /// Parts of one log line.
    Log(Vec<String>),
}

#[derive(Debug)]
pub(crate) enum Action {
    /// From this address, or by `submission`.
    Connect(String),
    Ehlo(String),
    StartTls(Tls),
    Auth(String),
    Mail(String),
    Rcpt(String),
    /// A message's text.
    Data(String),
    /// A whole message, all of which is accepted.
    Message(Message),
    /// Any command.
    Say(String),
    /// Several commands in one write.
    Pipeline(Vec<String>),
    /// Goes away without QUIT: `reset` or `close`.
    Drop(String),
    /// Waits until the decisions file has this many records.
    Decided(usize),
    Edit(Edit),
    Signal(String),
    /// Starts the daemon. True: it is waited for until it listens.
    Start(bool),
    /// Waits until the daemon has ended, with this exit code.
    Exit(i32),
    /// Waits until the daemon listens everywhere, or nowhere.
    Listening(bool),
    /// Waits for a log line, from the last edit, signal or start on, and after the one that was waited for before.
    Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    #[serde(default = "policy_toml")]
    pub(crate) file: String,
    #[serde(default)]
    pub(crate) how: Manner,
    /// The name of a text.
    #[serde(default)]
    pub(crate) to: Option<String>,
}

fn policy_toml() -> String {
    "policy.toml".to_owned()
}

/// A step as it stands in the file: one verb, and what is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    on: Option<String>,
    reply: Option<String>,
    starts: Option<String>,
    replies: Option<Vec<String>>,

    connect: Option<String>,
    ehlo: Option<String>,
    starttls: Option<Tls>,
    auth: Option<String>,
    mail: Option<String>,
    rcpt: Option<String>,
    data: Option<String>,
    message: Option<Message>,
    say: Option<String>,
    pipeline: Option<Vec<String>>,
    drop: Option<String>,
    decided: Option<usize>,
    edit: Option<Edit>,
    signal: Option<String>,
    start: Option<bool>,
    exit: Option<i32>,
    listening: Option<bool>,
    log: Option<Vec<String>>,
}

impl TryFrom<Line> for Step {
    type Error = String;

    fn try_from(line: Line) -> Result<Step> {
        let verbs = [
            line.connect.map(Action::Connect),
            line.ehlo.map(Action::Ehlo),
            line.starttls.map(Action::StartTls),
            line.auth.map(Action::Auth),
            line.mail.map(Action::Mail),
            line.rcpt.map(Action::Rcpt),
            line.data.map(Action::Data),
            line.message.map(Action::Message),
            line.say.map(Action::Say),
            line.pipeline.map(Action::Pipeline),
            line.drop.map(Action::Drop),
            line.decided.map(Action::Decided),
            line.edit.map(Action::Edit),
            line.signal.map(Action::Signal),
            line.start.map(Action::Start),
            line.exit.map(Action::Exit),
            line.listening.map(Action::Listening),
            line.log.is_some().then_some(Action::Log),
        ];
        let mut verbs = verbs.into_iter().flatten();
        let expectations = [
            line.reply.map(Expect::Reply),
            line.starts.map(Expect::Starts),
            line.replies.map(Expect::Replies),
            line.log.map(Expect::Log),
        ];
        let mut expectations = expectations.into_iter().flatten();
        let (Some(action), None) = (verbs.next(), verbs.next()) else {
            return Err("a step has exactly one verb".to_owned());
        };
        let expects = expectations.next();
        if expectations.next().is_some() {
            return Err(format!("{action}: more than one expectation"));
        }
        let fits = match (&action, &expects) {
            (Action::Pipeline(lines), Some(Expect::Replies(replies))) => lines.len() == replies.len(),
            (Action::Log, Some(Expect::Log(parts))) => !parts.is_empty(),
            (Action::Pipeline(_) | Action::Log, _) | (_, Some(Expect::Replies(_) | Expect::Log(_))) => false,
            (
                Action::Message(_)
                | Action::Drop(_)
                | Action::Decided(_)
                | Action::Edit(_)
                | Action::Signal(_)
                | Action::Start(_)
                | Action::Exit(_)
                | Action::Listening(_),
                expects,
            ) => expects.is_none(),
            (Action::Say(_), expects) => expects.is_some(),
            _ => true,
        };
        if !fits {
            return Err(format!("{action}: no expectation that fits it"));
        }
        Ok(Step { on: line.on.unwrap_or_default(), action, expects })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Connect(from) => write!(f, "connect from {from}"),
            Action::Ehlo(name) => write!(f, "EHLO {name}"),
            Action::StartTls(tls) => write!(f, "STARTTLS {tls:?}"),
            Action::Auth(how) => write!(f, "AUTH {how}"),
            Action::Mail(from) => write!(f, "MAIL FROM:{from}"),
            Action::Rcpt(to) => write!(f, "RCPT TO:{to}"),
            Action::Data(_) => write!(f, "DATA"),
            Action::Message(message) => write!(f, "message from {} to {:?}", message.from, message.to),
            Action::Say(line) => write!(f, "{line}"),
            Action::Pipeline(lines) => write!(f, "{lines:?}"),
            Action::Drop(how) => write!(f, "drop: {how}"),
            Action::Decided(count) => write!(f, "wait for {count} records"),
            Action::Edit(edit) => write!(f, "edit {} ({:?})", edit.file, edit.how),
            Action::Signal(name) => write!(f, "SIG{name}"),
            Action::Start(_) => write!(f, "start the daemon"),
            Action::Exit(code) => write!(f, "wait for the daemon's end, {code}"),
            Action::Listening(yes) => write!(f, "wait until the daemon listens: {yes}"),
            Action::Log => write!(f, "wait for the log"),
        }
    }
}
