//! The daemon's log: `tracing`'s events as entries, and what can be set of the log.
//!
//! Promises: one event, one entry. All that is set can change while the daemon runs, for the next entry.

use super::decisions::Decisions;
use super::entry::{Entry, Event, Format};
use super::sink::{Sink, Target};
use std::error::Error;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

/// The levels that a daemon file may name, the quietest first.
pub const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// All that is set of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is said.
    pub level: Level,
    /// How lines look.
    pub format: Format,
    /// Where the log goes.
    pub output: Target,
    /// Where decisions are written as JSON Lines.
    pub decisions: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::INFO, format: Format::Text, output: Target::Stderr, decisions: None }
    }
}

impl Settings {
    /// Whether the log has decisions: they are `info`.
    pub fn has_decisions(&self) -> bool {
        self.level >= Level::INFO
    }

    /// Where the file of decisions is, if there is one.
    pub fn decisions_target(&self) -> Target {
        self.decisions.clone().map_or(Target::Nowhere, Target::File)
    }
}

/// Changes the level.
#[derive(Clone, Debug)]
pub struct LevelControl(reload::Handle<LevelFilter, Registry>);

impl LevelControl {
    /// From now on.
    pub fn set(&self, level: Level) {
        // Fails only when the log is gone, with the process.
        let _ = self.0.reload(LevelFilter::from_level(level));
    }
}

/// Changes what is set of the log and of decisions, while both are in use.
#[derive(Debug)]
pub struct Switch {
    /// The log's level.
    pub level: LevelControl,
    /// The log.
    pub log: Sink,
    /// The file of decisions, or nowhere.
    pub file: Sink,
    /// Which of the two decisions go to.
    pub decisions: Arc<Decisions>,
}

impl Switch {
    /// From these settings to those; the log says what has changed, where it goes from then on.
    pub fn switch(&self, from: &Settings, to: &Settings) {
        self.level.set(to.level);
        if (&from.output, from.format) != (&to.output, to.format) {
            self.log.change(to.output.clone(), to.format);
        }
        if from.decisions != to.decisions {
            self.file.change(to.decisions_target(), Format::Json);
        }
        self.decisions.set(to.has_decisions(), to.decisions.is_some());
        if from.level != to.level {
            tracing::info!(level = %to.level, "the log's level has changed");
        }
        if from.format != to.format {
            tracing::info!(format = ?to.format, "the log's format has changed");
        }
        if from.output != to.output {
            tracing::info!(from = %from.output, to = %to.output, "the log's output has changed");
        }
        if from.decisions != to.decisions {
            let [from, to] = [from, to].map(Settings::decisions_target);
            tracing::info!(%from, %to, "the file of decisions has changed");
        }
    }
}

/// Makes the log. The caller puts it in place: for the process, or for a test.
pub fn subscriber(sink: Sink, level: Level) -> (impl Subscriber + Send + Sync, LevelControl) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    (Registry::default().with(filter).with(Entries { sink }), LevelControl(handle))
}

struct Entries {
    sink: Sink,
}

impl<S: Subscriber> Layer<S> for Entries {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut entry = Event {
            ts: jiff::Timestamp::now(),
            level: *event.metadata().level(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut Fields(&mut entry));
        self.sink.take(Entry::Event(Box::new(entry)));
    }
}

/// An error and what lies behind it, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

struct Fields<'e>(&'e mut Event);

impl Fields<'_> {
    fn take(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.0.message = text;
        } else {
            self.0.fields.push((field.name(), text));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.take(field, with_causes(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn opened(path: &Path, format: Format) -> super::super::sink::Writer {
        Sink::start(Target::File(path.to_owned()), format, "test", |_| None).unwrap().0
    }

    fn lines(format: Format, level: Level, say: impl Fn(&LevelControl)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = opened(&path, format);
        let (subscriber, control) = subscriber(writer.sink().clone(), level);
        tracing::subscriber::with_default(subscriber, || say(&control));
        writer.close();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let odd = "a\nb, verdict=pass \u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}";
        let text = lines(Format::Text, Level::INFO, |_| tracing::info!(n = 7, odd, "hello\n{odd}"));
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.ends_with(concat!(
                r" INFO hello\na\nb, verdict=pass \u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{61c} n=7",
                r#" odd="a\nb, verdict=pass \u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}""#,
                "\n"
            )),
            "{text}"
        );
        let json = lines(Format::Json, Level::INFO, |_| tracing::warn!(n = 7, odd, "hello"));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&value["level"], &value["message"], &value["odd"]),
            (&"warn".into(), &"hello".into(), &odd.into())
        );
    }

    #[test]
    fn the_level_can_change() {
        let text = lines(Format::Text, Level::WARN, |control| {
            tracing::info!("one");
            control.set(Level::INFO);
            tracing::info!("two");
            control.set(Level::ERROR);
            tracing::warn!("three");
        });
        assert!(text.contains("two") && !text.contains("one") && !text.contains("three"), "{text}");
    }

    #[test]
    fn all_that_is_set_can_change_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (log, file) = (opened(&path("one.log"), Format::Text), opened(&path("one.jsonl"), Format::Json));
        let (subscriber, level) = subscriber(log.sink().clone(), Level::WARN);
        let decisions = Arc::new(Decisions::new(log.sink().clone(), false, file.sink().clone(), true));
        let switch = Switch {
            level,
            log: log.sink().clone(),
            file: file.sink().clone(),
            decisions: Arc::clone(&decisions),
        };
        let from = Settings {
            level: Level::WARN,
            output: Target::File(path("one.log")),
            decisions: Some(path("one.jsonl")),
            ..Settings::default()
        };
        let to = Settings {
            level: Level::INFO,
            format: Format::Json,
            output: Target::File(path("two.log")),
            decisions: Some(path("two.jsonl")),
        };
        let record = crate::policy::record::Record::default();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("before");
            decisions.write(&record);
            switch.switch(&from, &to);
            decisions.write(&record);
            switch.switch(&to, &Settings { decisions: None, ..to.clone() });
            decisions.write(&record);
        });
        log.close();
        file.close();
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert!(read("one.log").ends_with(" WARN before\n") && read("one.log").lines().count() == 1);
        let decision = "{\"direction\":\"inbound\"}\n";
        assert_eq!((read("one.jsonl").as_str(), read("two.jsonl").as_str()), (decision, decision));
        let log = read("two.log");
        let two: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: Vec<&str> = two.iter().filter_map(|line| line["message"].as_str()).collect();
        assert_eq!(
            said,
            [
                "the log's level has changed",
                "the log's format has changed",
                "the log's output has changed",
                "the file of decisions has changed",
                "the file of decisions has changed",
            ]
        );
        assert_eq!(two.iter().filter(|line| line["direction"] == "inbound").count(), 2);
    }
}
