//! Asks the program under test, as an administrator would: `access import`, `access export`, `explain --batch`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Map, Value};
use tempfile::TempDir;

use super::bt::{Answer, Case, Ruleset, single_blanks};
use crate::rig::tool::run;
use crate::rig::{Result, Rig};

pub(crate) struct Ours {
    program: PathBuf,
    folder: TempDir,
}

impl Ours {
    pub(crate) fn new(rig: &Rig) -> Result<Ours> {
        let folder = tempfile::tempdir().map_err(|e| format!("a folder: {e}"))?;
        Ok(Ours { program: rig.daemon.clone(), folder })
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    /// The policy that an access map's text comes to. A line that import cannot express (exit code 65) is a fault.
    pub(crate) fn import(&self, map: &str, perm_err: bool) -> Result<String> {
        let mut import = Command::new(&self.program);
        import.args(["access", "import"]).arg(self.file("access", map)?);
        if perm_err {
            import.arg("--tls-perm-err");
        }
        utf8(run(&mut import, "")?)
    }

    /// The access map's lines that a policy's mode comes to.
    pub(crate) fn export(&self, policy: &str, mode: &str) -> Result<String> {
        let mut export = Command::new(&self.program);
        export.args(["access", "export", "--mode", mode, "--policy"]).arg(self.file("policy.toml", policy)?);
        utf8(run(&mut export, "")?)
    }

    /// The decision record of each case.
    pub(crate) fn explain(&self, policy: &str, ruleset: Ruleset, cases: &[Case]) -> Result<Vec<Value>> {
        let mut explain = Command::new(&self.program);
        explain.args(["explain", "--batch", "--policy"]).arg(self.file("policy.toml", policy)?);
        let input: Vec<String> = cases.iter().map(|case| record(ruleset, case).to_string()).collect();
        let output = run(&mut explain, &input.join("\n")).map_err(|fault| format!("{fault}\n{policy}"))?;
        let parse = |line: &str| serde_json::from_str(line).map_err(|e| format!("a record: {e}: {line}"));
        let records: Vec<Value> = utf8(output)?.lines().map(parse).collect::<Result<_>>()?;
        if records.len() == cases.len() {
            return Ok(records);
        }
        Err(format!("explain has answered {} of {} cases", records.len(), cases.len()))
    }
}

fn utf8(output: Output) -> Result<String> {
    String::from_utf8(output.stdout).map_err(|e| format!("what the program wrote: {e}"))
}

/// The case as a record that is yet to be judged.
fn record(ruleset: Ruleset, case: &Case) -> Value {
    let direction = if ruleset == Ruleset::Client { "inbound" } else { "outbound" };
    let mut fields: Map<String, Value> =
        case.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    fields.insert("direction".to_owned(), direction.into());
    Value::Object(fields)
}

/// What a decision comes to for the mail.
pub(crate) fn answer(record: &Value) -> Answer {
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let class = match text("disposition") {
        "tempfail" => '4',
        "reject" => '5',
        _ => return Answer::Accepted,
    };
    Answer::Refused(class, single_blanks(text("reason")))
}

/// What it would come to if one mode were the whole policy: the class of that mode, if it has failed.
pub(crate) fn answer_of_mode(record: &Value, mode: &str) -> Answer {
    let failures = record.get("failures").and_then(Value::as_array);
    let failed = failures.into_iter().flatten().find(|failure| failure["mode"] == mode);
    failed.map_or(Answer::Accepted, |failure| {
        let class = if mode == "enforce" { '5' } else { '4' };
        Answer::Refused(class, single_blanks(failure["reason"].as_str().unwrap_or_default()))
    })
}
