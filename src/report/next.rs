//! What to do next, from what the evidence says.

use super::exemptions::Standing;
use super::{Origin, Report};

/// So many rules that are ready are named.
const READY: usize = 3;

/// A next step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Why.
    pub(super) why: String,
    /// What to type.
    pub(super) command: String,
}

impl Step {
    fn new(why: &str, command: impl Into<String>) -> Self {
        Self { why: why.to_owned(), command: command.into() }
    }
}

/// What to do next.
pub(super) fn next_steps(report: &Report) -> Vec<Step> {
    let (arguments, logs) = (&report.origin.arguments, &report.origin.logs);
    let mut steps = Vec::new();
    let ready = report.rules.iter().filter_map(|rule| rule.ripeness.as_ref()).filter(|rule| rule.ripe);
    for ripeness in ready.take(READY) {
        steps.push(Step::new(
            "Make a rule harder that is ready:",
            format!("encr-milter promote {} --to {}{arguments}", shell_word(&ripeness.rule), ripeness.to),
        ));
    }
    let lapsing = |rule: &&super::exemptions::RuleExemption| rule.standing == Standing::Lapsing;
    if let Some(rule) = report.exemptions.rules.iter().find(lapsing) {
        steps.push(Step::new(
            "An exemption ends soon; ask its owner, and see what would become of them:",
            format!("encr-milter simulate --policy NEW.toml{logs}   # without rule {}", rule.rule),
        ));
    }
    let mut domains = report.who_would_break.iter().flat_map(|exposure| &exposure.domains);
    let would_break = domains.find(|domain| {
        let fails = domain.tally.would_fail.iter().take(3).any(|fails| fails.messages > 0);
        fails && domain.domain.contains('.')
    });
    if let Some(domain) = would_break {
        steps.push(Step::new(
            "Tell the partner who would break first; this makes a page to send:",
            format!("encr-milter report{arguments} --domain {0} --html -o {0}.html", domain.domain),
        ));
    }
    steps.push(Step::new(
        "See what a policy would do that is not yet in force:",
        format!("encr-milter simulate --policy NEW.toml{logs}"),
    ));
    steps
}

/// What to say and do where there is no evidence.
pub(super) fn empty(origin: &Origin) -> Vec<String> {
    let mut lines = vec!["There is no decision in it.".to_owned()];
    if origin.since.is_some() || origin.until.is_some() {
        lines.push(
            "Only some days were asked for: leave out --since, --until and --days to see all.".to_owned(),
        );
    }
    lines.push(if origin.from_store {
        "The daemon writes evidence every few seconds, from the first message on: is it attached to sendmail, and has \
         there been mail since? Until there is some, sendmail's own log will do: encr-milter report /var/log/mail.log"
            .to_owned()
    } else {
        "Are these sendmail's mail logs, or files of decisions? sendmail writes what is needed from LogLevel 9 on. A \
         machine without a syslog daemon has it in its journal alone: \
         journalctl -t sm-mta -t sendmail -o short-iso --no-pager | encr-milter report -"
            .to_owned()
    });
    lines
}

/// A word, or a path, as a shell takes it.
pub fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-/+,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_to_a_shell() {
        for (name, word) in [
            ("partner-1.x", "partner-1.x"),
            ("two words", "'two words'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("/etc/a.b", "/etc/a.b"),
        ] {
            assert_eq!(shell_word(name), word);
        }
    }
}
