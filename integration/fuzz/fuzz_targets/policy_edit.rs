//! `promote` and `demote` in a policy's text: what comes out parses, means what the step says for this rule and nothing
//! new for any other, and has every comment that was there.
#![no_main]

use encr_milter::policy::rule::{Delay, Mode, Rule};
use encr_milter::policy::step::{Proposal, Wish, demote, promote};
use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::edit::{EditError, apply, has_rule};
use encr_milter_fuzz::files::load_text;
use encr_milter_fuzz::{TODAY, memory};
use libfuzzer_sys::fuzz_target;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// So many rules of a policy are tried: a policy of many rules tries none of them better.
const RULES: usize = 3;

const WISHES: [Wish; 3] = [
    Wish { percent: None, max_delay: None, from: None },
    Wish { percent: Some(25), max_delay: Some(Delay(4 * 3600)), from: None },
    Wish { percent: None, max_delay: None, from: Some(Day(TODAY.0 + 30)) },
];

/// Every comment of a text, sorted.
fn comments(text: &str) -> Vec<&str> {
    let source = Source::new(text);
    let comments = source.lex().filter(|token| token.kind() == TokenKind::Comment);
    let mut comments: Vec<&str> =
        comments.filter_map(|token| text.get(token.span().start()..token.span().end())).collect();
    comments.sort_unstable();
    comments
}

fn make(text: &str, before: &Policy, rule: &Rule, proposal: &Proposal) {
    assert!(
        has_rule(text, &rule.name)
            || matches!(apply(text, &rule.name, &proposal.step), Err(EditError::InlineRule(_)))
    );
    let Ok(out) = memory::bounded(text.len(), 2_000, || apply(text, &rule.name, &proposal.step)) else {
        return;
    };
    let loaded = load_text(&out);
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    let Some(after) = loaded.policy else {
        // A step that nobody should take may come to a policy that nobody should have; the command refuses it.
        assert!(!proposal.objections.is_empty(), "{shown}\n{text}\n--- became\n{out}");
        return;
    };
    assert_eq!(before.rules().len(), after.rules().len(), "{text}\n--- became\n{out}");
    for (before, after) in before.rules().iter().zip(after.rules()) {
        let modes = if before.name == rule.name { &proposal.step.after } else { &before.modes };
        assert_eq!(after, &Rule { modes: modes.clone(), ..before.clone() }, "{text}\n--- became\n{out}");
    }
    assert_eq!(comments(text), comments(&out), "{text}\n--- became\n{out}");
}

fuzz_target!(|text: &str| {
    let Some(policy) = load_text(text).policy else { return };
    for rule in policy.rules().iter().take(RULES) {
        for wish in WISHES {
            for to in Mode::HARDEST_FIRST {
                let steps = [promote(rule, to, wish, TODAY), demote(rule, to, wish, TODAY)];
                for proposal in steps.into_iter().flatten() {
                    make(text, &policy, rule, &proposal);
                }
            }
        }
    }
});
