//! `encr-milter simulate`: what would have happened under another policy.
//!
//! Must not: know what a log looks like (see [`crate::replay`]), nor what a change is (see [`crate::simulation`]).

mod arguments;
mod picture;
mod pretty;
mod report;

pub(super) use arguments::{Arguments, zone};

use super::replaying::Watch;
use super::{complain, exit, policies};
use crate::policy::decide::decide;
use crate::policy::facts::Direction;
use crate::policy::record::Record;
use crate::policy::rule::Mode;
use crate::policy::{Day, Policy};
use crate::replay::{Audience, Options, Origin, Problem, Replay};
use crate::simulation::repeats::Repeats;
use crate::simulation::{Judged, Simulation};
use indicatif::HumanCount;
use jiff::tz::TimeZone;
use report::Report;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::mem;
use std::ops::ControlFlow;

/// A report of many groups is written in pieces of this size.
const REPORT_PIECE: usize = 64 * 1024;

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let now = jiff::Timestamp::now();
    let zone = arguments.time_zone.clone().unwrap_or_else(TimeZone::system);
    let since = arguments.since.map(|since| since.resolve(&zone, false)).transpose();
    let until = arguments.until.map(|until| until.resolve(&zone, true)).transpose();
    let (since, until) = match (since, until) {
        (Ok(since), Ok(until)) => (since, until),
        (Err(error), _) | (_, Err(error)) => {
            complain(&format!("--since, --until: {error}"));
            return Ok(exit::USAGE);
        }
    };
    let files = &arguments.files;
    let new = policies::load(&files.policy, now)?;
    let old = if files.against.is_empty() { None } else { Some(policies::load(&files.against, now)?) };
    let (Some(new), None | Some(Some(_))) = (new, &old) else { return Ok(exit::CONFIG) };
    let old = old.flatten();

    let both = [Some(&new), old.as_ref()];
    let judges = |by: fn(&Policy) -> bool| both.into_iter().flatten().any(by);
    let options = Options {
        recipients: judges(Policy::judges_recipients),
        deliveries: judges(Policy::judges_deliveries),
        zone,
        reference: now,
    };
    let mut hearing = Hearing {
        new: &new,
        old: old.as_ref(),
        now,
        day: arguments.day.map(Day::of_date),
        since,
        until,
        simulation: Simulation::new(usize::from(arguments.examples)),
        repeats: Repeats::new(&new, old.as_ref()),
        seen: Seen::default(),
        records: arguments
            .records
            .then(|| Records { out: BufWriter::new(io::stdout().lock()), line: Vec::new() }),
        output: Ok(()),
        watch: Watch::new(arguments.records),
    };
    let (recipients, deliveries) = (options.recipients, options.deliveries);
    let mut replay = Replay::new(&files.logs, options, &mut hearing);
    hearing.watch.begin(replay.total());
    let tally = replay.run(&mut hearing);
    hearing.watch.end();
    let Hearing { simulation, seen, records, output, watch, .. } = hearing;
    output?;
    let last = simulation.period().map(|(_, last)| Day::of_unix_seconds(last.as_second()));
    let last_day = arguments.day.map(Day::of_date).or(last);
    let report = Report::new(
        arguments,
        [Some(&new), old.as_ref()].map(|policy| policy.map(|policy| policy.fingerprint().as_str())),
        &simulation,
        &seen,
        &tally,
        [tally.notes(), seen.notes(recipients, deliveries), to_come(&new, last_day)].concat(),
    );
    match records {
        Some(mut records) => records.out.flush()?,
        None if arguments.json => {
            let mut out = BufWriter::with_capacity(REPORT_PIECE, io::stdout().lock());
            pretty::write(&mut out, &report)?;
            writeln!(out)?;
            out.flush()?;
        }
        None => picture::draw(&report, arguments.limit, &mut BufWriter::new(io::stdout().lock()))?,
    }
    let nothing = !arguments.fail_on.is_empty() && simulation.judged() == 0;
    let code = match report.gate() {
        Some(shut) => {
            complain(&shut);
            exit::GATE
        }
        None if watch.code() != exit::OK => watch.code(),
        None if nothing => {
            complain(
                "no message could be judged, so --fail-on has nothing to go by; are these the right logs?",
            );
            exit::DATA
        }
        None => exit::OK,
    };
    drop(report);
    // The program ends: ten thousands of words are not given back one by one.
    mem::forget((simulation, replay));
    Ok(code)
}

/// `1 message`, `12,034 messages`.
fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

/// Whether a rule asks for more only after the last day by which anything was judged.
fn to_come(policy: &Policy, last: Option<Day>) -> Vec<String> {
    let modes = policy.rules().iter().flat_map(|rule| {
        let entries = Mode::HARDEST_FIRST.into_iter().filter_map(|mode| Some((mode, rule.modes.get(mode)?)));
        entries.filter_map(move |(mode, entry)| Some((&rule.name, mode, entry.from?)))
    });
    let mut later: Vec<_> = modes.filter(|(.., from)| last.is_some_and(|last| *from > last)).collect();
    later.sort_by_key(|(.., from)| *from);
    let told = later.first().zip(later.last()).map(|((rule, mode, from), (.., latest))| {
        let more = match later.len() - 1 {
            0 => String::new(),
            more => format!(" and {}", counted(more as u64, "other mode")),
        };
        format!("{mode} of rule {rule}{more} is not in force before {from}: no message was held against it; --day {latest} judges all by that day")
    });
    told.into_iter().collect()
}

/// What was heard, beside what would change.
#[derive(Default)]
struct Seen {
    decisions: u64,
    mail_log: u64,
    outside: u64,
    /// Messages that were judged without a recipient, by direction.
    whole: [u64; 2],
    /// From when to when there were messages, by where they came from.
    periods: [Option<(jiff::Timestamp, jiff::Timestamp)>; 2],
}

/// Where records go.
struct Records {
    out: BufWriter<StdoutLock<'static>>,
    line: Vec<u8>,
}

/// Judges what is replayed.
struct Hearing<'p> {
    new: &'p Policy,
    old: Option<&'p Policy>,
    now: jiff::Timestamp,
    /// Where every message is judged by one day.
    day: Option<Day>,
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
    simulation: Simulation,
    repeats: Repeats<'p>,
    seen: Seen,
    records: Option<Records>,
    output: io::Result<()>,
    watch: Watch,
}

impl Hearing<'_> {
    fn is_outside(&self, ts: Option<jiff::Timestamp>) -> bool {
        self.since.is_some_and(|since| ts.is_none_or(|ts| ts < since))
            || self.until.is_some_and(|until| ts.is_none_or(|ts| ts >= until))
    }
}

impl Audience for Hearing<'_> {
    fn record(&mut self, origin: Origin, record: &Record<'_>) -> ControlFlow<()> {
        if self.is_outside(record.ts) {
            self.seen.outside += 1;
            return ControlFlow::Continue(());
        }
        self.seen.count(origin, record);
        let day = self.day.unwrap_or_else(|| record.day(self.now));
        // Each of the records that are asked for has a time and a queue id of its own.
        if self.records.is_none()
            && let Some(counted) = self.repeats.find(record, day)
        {
            self.simulation.add_again(record.ts, counted);
            return ControlFlow::Continue(());
        }
        let facts = record.facts();
        let envelope = record.envelope();
        let decision = decide(self.new, &facts, envelope, day);
        if let Some(records) = &mut self.records {
            let ts = record.ts.unwrap_or(self.now);
            let decided = Record::new(ts, &facts, envelope, &decision, self.new.fingerprint());
            records.line.clear();
            decided.write_json(&mut records.line);
            self.output = records.out.write_all(&records.line);
            if self.output.is_err() {
                return ControlFlow::Break(());
            }
        }
        let old = self.old.map(|old| decide(old, &facts, envelope, day));
        let before = old.as_ref().map_or_else(|| Judged::recorded(record), Judged::by);
        let counted = self.simulation.add(record, &facts, before, Judged::by(&decision));
        if self.records.is_none() {
            self.repeats.remember(counted);
        }
        ControlFlow::Continue(())
    }

    fn progress(&mut self, bytes: u64) {
        self.watch.progress(bytes);
    }

    fn problem(&mut self, problem: Problem) {
        self.watch.problem(&problem);
    }
}

impl Seen {
    fn count(&mut self, origin: Origin, record: &Record<'_>) {
        let [decisions, mail_log] = &mut self.periods;
        let (count, period) = match origin {
            Origin::Decision => (&mut self.decisions, decisions),
            Origin::MailLog => (&mut self.mail_log, mail_log),
        };
        *count += 1;
        if let Some(ts) = record.ts {
            let (first, last) = period.get_or_insert((ts, ts));
            (*first, *last) = ((*first).min(ts), (*last).max(ts));
        }
        if record.recipient.is_none() {
            let [inbound, outbound] = &mut self.whole;
            *(if record.direction == Direction::Inbound { inbound } else { outbound }) += 1;
        }
    }

    /// What a reader of the result should know.
    fn notes(&self, recipients: bool, deliveries: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let [inbound, outbound] = self.whole;
        for (judged, whole, side) in
            [(recipients, inbound, "recipient"), (deliveries, outbound, "recipient-outbound")]
        {
            if judged && whole > 0 {
                let whole = counted(whole, "message");
                notes.push(format!(
                    "no recipient is known of {whole}: rules on `{side}` were not held against them"
                ));
            }
        }
        if let [Some(decisions), Some(mail_log)] = self.periods
            && decisions.0 <= mail_log.1
            && mail_log.0 <= decisions.1
        {
            notes.push(
                "decision records and sendmail's log cover the same time: messages in both count twice; give one of \
                 the two, or part them with --since and --until"
                    .to_owned(),
            );
        }
        notes
    }
}
