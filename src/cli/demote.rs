//! `encr-milter demote`: a rule's demand, one or more modes down, in the policy file itself.

use super::change::{Change, Options, Way, softer_mode};
use super::today;
use crate::policy::rule::Mode;
use crate::policy::step::Wish;
use std::io;

/// Make a rule softer, in the policy file itself
///
/// Afterwards the rule has no mode that is harder than the one given. Of all that it demanded there and
/// above, the most is demanded there: `observe = {256}` beside `enforce = {128}` stays as it is, and `enforce`
/// goes. So it never becomes stricter, and never forgets a stricter demand; where it would have to
/// (two demands of which neither holds the other), it is refused without --force, which keeps the
/// hardest mode's. No evidence is asked for.
///
/// All else in the file stays byte for byte. Exit codes are those of `promote`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The rule's name
    #[arg(value_name = "RULE")]
    rule: String,
    /// The hardest mode that it may have then: observe or soft-fail
    #[arg(long, value_name = "MODE", value_parser = softer_mode())]
    to: Mode,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let options = &arguments.options;
    let wish = Wish { percent: options.percent, max_delay: options.max_delay, from: None };
    Change { today: today(), way: Way::Down, rule: &arguments.rule, to: arguments.to, wish, options }.run()
}
