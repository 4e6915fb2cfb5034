//! The daemon's log: `tracing`'s events as lines of text or JSON.
//!
//! Promises: one event, one line, whatever is in it; the level can change while the daemon runs.

use super::sink::Sink;
use crate::policy::record::{OneLine, Value};
use serde::ser::{SerializeMap, Serializer};
use std::error::Error;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-22T04:00:00.123456Z INFO listening listener=…`
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The levels that a daemon file may name, the quietest first.
pub const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

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

/// Makes the log. The caller puts it in place: for the process, or for a test.
pub fn subscriber(sink: Sink, format: Format, level: Level) -> (impl Subscriber + Send + Sync, LevelControl) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    (Registry::default().with(filter).with(Lines { sink, format }), LevelControl(handle))
}

struct Lines {
    sink: Sink,
    format: Format,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.sink.line(self.format.line(*event.metadata().level(), fields.message, fields.others));
    }
}

impl Format {
    /// One line, as the log would write it, of something that must not go through the log's queue.
    pub fn line(self, level: Level, message: String, others: Vec<(&'static str, String)>) -> Vec<u8> {
        let fields = Fields { message, others };
        let now = jiff::Timestamp::now();
        match self {
            Self::Text => text(now, level, &fields),
            Self::Json => json(now, level, &fields),
        }
    }
}

fn text(now: jiff::Timestamp, level: Level, fields: &Fields) -> Vec<u8> {
    let mut line = format!("{now:.6} {level} ");
    // The message is ours; what it may quote is not.
    for c in fields.message.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    for (name, value) in &fields.others {
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={}", Value(value));
    }
    line.push('\n');
    line.into_bytes()
}

fn json(now: jiff::Timestamp, level: Level, fields: &Fields) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, OneLine);
    let mut write = || -> Result<(), serde_json::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", &format_args!("{now:.6}"))?;
        map.serialize_entry("level", &level.as_str().to_ascii_lowercase())?;
        map.serialize_entry("message", &fields.message)?;
        for (name, value) in &fields.others {
            map.serialize_entry(name, value)?;
        }
        map.end()
    };
    // Strings into memory: cannot fail.
    let _ = write();
    line.push(b'\n');
    line
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

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.push((field.name(), text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.push((field.name(), value.to_owned()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.others.push((field.name(), with_causes(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::sink::Target;

    fn lines(format: Format, level: Level, say: impl Fn(&LevelControl)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (writer, _) = Sink::start(Target::File(path.clone()), "test", |_| None).unwrap();
        let (subscriber, control) = subscriber(writer.sink().clone(), format, level);
        tracing::subscriber::with_default(subscriber, || say(&control));
        writer.close();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let odd = "a\nb, verdict=pass \u{85}";
        let text = lines(Format::Text, Level::INFO, |_| tracing::info!(n = 7, odd, "hello\n{odd}"));
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.ends_with(
                " INFO hello\\na\\nb, verdict=pass \\u{85} n=7 odd=\"a\\nb, verdict=pass \\u{85}\"\n"
            ),
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
}
