//! What is wrong with a file, shown as compilers show it: code, place, the line itself, a caret, a hint.
//!
//! Promises: everything that is wrong is told at once (up to [`MAX_SHOWN`]); codes are stable words, so
//! that they can be searched for; the same diagnostics serve a person and `--json`.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;
use std::cell::OnceCell;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of a million bad lines is told after so many.
pub const MAX_SHOWN: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is taken all the same.
    Warning,
    /// The file is refused.
    Error,
}

/// A file that was read, for the lines to show.
#[derive(Debug)]
pub struct Source {
    /// Where it lies, as it is shown.
    pub path: PathBuf,
    /// What it says.
    pub text: Arc<str>,
    /// Where its lines begin; made when the first diagnostic needs it.
    lines: OnceCell<Vec<usize>>,
}

/// A file of [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(usize);

/// A place in a file. Bytes, half-open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// From where to where.
    pub span: Range<usize>,
}

/// All files that were read.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

impl Source {
    fn line_starts(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let breaks = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(breaks).collect()
        })
    }

    /// The line (from 1), the column (from 1, in characters), and the bytes of the line.
    fn locate(&self, at: usize) -> (usize, usize, Range<usize>) {
        let starts = self.line_starts();
        let line = starts.partition_point(|&start| start <= at).max(1);
        let begin = starts.get(line - 1).copied().unwrap_or(0);
        let end = starts.get(line).map_or(self.text.len(), |next| next.saturating_sub(1)).max(begin);
        let before = self.text.get(begin..at.min(self.text.len())).unwrap_or_default();
        (line, before.chars().count() + 1, begin..end)
    }
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, path: PathBuf, text: Arc<str>) -> FileId {
        self.0.push(Source { path, text, lines: OnceCell::new() });
        FileId(self.0.len() - 1)
    }

    /// A file.
    pub fn get(&self, id: FileId) -> Option<&Source> {
        self.0.get(id.0)
    }

    /// Every file, in the order of reading.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }
}

/// One thing that is wrong, or odd.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for it.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where; a file that could not be read has no place in it.
    pub place: Option<Place>,
    /// The file, where there is no place.
    pub path: Option<PathBuf>,
    /// What stands beside the caret.
    pub label: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            place: None,
            path: None,
            label: None,
            hint: None,
        }
    }

    /// A warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Says where.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Says which file, as a whole.
    pub fn in_file(mut self, path: &Path) -> Self {
        self.path = Some(path.to_path_buf());
        self
    }

    /// Says what stands beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A diagnostic as `--json` tells it.
#[derive(Debug, Serialize)]
pub struct DiagnosticRecord<'a> {
    severity: Severity,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The column behind its last character, where it ends on the line that it begins on.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_column: Option<usize>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// What was found, in the order of finding.
#[derive(Debug)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    most: usize,
}

impl Default for Diagnostics {
    fn default() -> Self {
        Self::up_to(MAX_SHOWN)
    }
}

impl Diagnostics {
    /// Shows so many at the most: a list that is worked off line by line may be longer than [`MAX_SHOWN`].
    pub fn up_to(most: usize) -> Self {
        Self { list: Vec::new(), errors: 0, warnings: 0, most }
    }

    /// Adds one. What is beyond the most that are shown is counted; an error still takes the place of a warning.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let is_error = diagnostic.severity == Severity::Error;
        *(if is_error { &mut self.errors } else { &mut self.warnings }) += 1;
        if self.list.len() < self.most {
            self.list.push(diagnostic);
        } else if is_error
            && let Some(last) = self.list.iter().rposition(|other| other.severity == Severity::Warning)
        {
            self.list.remove(last);
            self.list.push(diagnostic);
        }
    }

    /// Whether the files are refused.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// Every diagnostic that is shown.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// `2 errors, 1 warning`; nothing where there is nothing.
    pub fn summary(&self) -> Option<String> {
        let count = |n: usize, what: &str| match n {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        let parts: Vec<_> =
            [count(self.errors, "error"), count(self.warnings, "warning")].into_iter().flatten().collect();
        let more = (self.errors + self.warnings).saturating_sub(self.list.len());
        let more = if more > 0 { format!(" ({more} of them not shown)") } else { String::new() };
        (!parts.is_empty()).then(|| format!("{}{more}", parts.join(", ")))
    }

    /// All of them as text, each drawn with its line.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&render_one(&renderer, diagnostic, sources));
            out.push_str("\n\n");
        }
        out
    }

    /// One line each, for the daemon's log.
    pub fn lines<'a>(&'a self, sources: &'a Sources) -> impl Iterator<Item = (Severity, String)> + 'a {
        self.list.iter().map(|diagnostic| {
            let record = record(diagnostic, sources);
            let mut line = String::new();
            if let Some(file) = &record.file {
                line.push_str(file);
                if let (Some(row), Some(column)) = (record.line, record.column) {
                    let _ = write!(line, ":{row}:{column}");
                }
                line.push_str(": ");
            }
            // Writing to a String cannot fail.
            let _ = write!(line, "{} [{}]", record.message, record.code);
            if let Some(hint) = record.hint {
                let _ = write!(line, "; {hint}");
            }
            (diagnostic.severity, line)
        })
    }

    /// All of them for `--json`.
    pub fn records<'a>(&'a self, sources: &'a Sources) -> Vec<DiagnosticRecord<'a>> {
        self.list.iter().map(|diagnostic| record(diagnostic, sources)).collect()
    }
}

fn record<'a>(diagnostic: &'a Diagnostic, sources: &Sources) -> DiagnosticRecord<'a> {
    let source = diagnostic.place.as_ref().and_then(|place| Some((place, sources.get(place.file)?)));
    let located = source.map(|(place, source)| source.locate(place.span.start));
    let end_column = source.zip(located.as_ref()).and_then(|((place, source), (line, ..))| {
        let (end_line, column, _) = source.locate(place.span.end.max(place.span.start));
        (end_line == *line).then_some(column)
    });
    let path = source.map(|(_, source)| source.path.as_path()).or(diagnostic.path.as_deref());
    DiagnosticRecord {
        severity: diagnostic.severity,
        code: diagnostic.code,
        file: path.map(|path| path.display().to_string()),
        line: located.as_ref().map(|(line, ..)| *line),
        column: located.as_ref().map(|(_, column, _)| *column),
        end_column,
        message: &diagnostic.message,
        label: diagnostic.label.as_deref(),
        hint: diagnostic.hint.as_deref(),
    }
}

/// A line of a million characters would be shown whole: show a window around the place.
const MAX_LINE: usize = 400;

fn render_one(renderer: &Renderer, diagnostic: &Diagnostic, sources: &Sources) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group =
        level.primary_title(diagnostic.message.as_str()).id(diagnostic.code).elements([] as [Origin<'_>; 0]);
    let source = diagnostic.place.as_ref().and_then(|place| Some((place, sources.get(place.file)?)));
    if let Some((place, source)) = source {
        let (line, column, bytes) = source.locate(place.span.start);
        let text = source.text.get(bytes.clone()).unwrap_or_default();
        // The renderer takes no place that is beyond the line, or within a character.
        let start = text.floor_char_boundary(place.span.start.saturating_sub(bytes.start));
        let end = text.ceil_char_boundary(place.span.end.saturating_sub(bytes.start)).max(start);
        let path = source.path.display().to_string();
        if text.len() > MAX_LINE {
            group = group.element(Origin::path(path).line(line).char_column(column));
        } else {
            let annotation = AnnotationKind::Primary.span(start..end).label(diagnostic.label.as_deref());
            group = group.element(Snippet::source(text).line_start(line).path(path).annotation(annotation));
        }
    } else if let Some(path) = &diagnostic.path {
        group = group.element(Origin::path(path.display().to_string()));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> (Sources, FileId) {
        let mut sources = Sources::default();
        let id = sources.add("policy.toml".into(), "version = 1\n\u{e9}nforce = { min-bit = 128 }\n".into());
        (sources, id)
    }

    #[test]
    fn a_diagnostic_is_drawn_with_its_line_and_caret() {
        let (sources, file) = sources();
        let mut diagnostics = Diagnostics::default();
        diagnostics.push(
            Diagnostic::error("unknown-field", "unknown field `min-bit`")
                .at(Place { file, span: 25..32 })
                .hint("did you mean `min-bits`?"),
        );
        let text = diagnostics.render(&sources, false);
        for part in [
            "error[unknown-field]: unknown field `min-bit`",
            "policy.toml:2:13",
            "min-bit = 128",
            "^^^^^^^",
            "did you mean `min-bits`?",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let (_, line) = diagnostics.lines(&sources).next().unwrap();
        assert_eq!(
            line,
            "policy.toml:2:13: unknown field `min-bit` [unknown-field]; did you mean `min-bits`?"
        );
    }

    #[test]
    fn a_place_at_the_end_or_beyond_is_no_trouble() {
        let (sources, file) = sources();
        let mut diagnostics = Diagnostics::default();
        for span in [0..0, 11..12, 40..41, 41..41, 500..600, 12..13] {
            diagnostics.push(Diagnostic::error("x", "y").at(Place { file, span }));
        }
        assert_eq!(diagnostics.records(&sources).len(), 6);
        assert!(diagnostics.render(&sources, false).contains("policy.toml:"));
    }

    #[test]
    fn a_script_is_told_all_that_is_drawn() {
        let (sources, file) = sources();
        let mut diagnostics = Diagnostics::default();
        let label = || Diagnostic::error("x", "y").label("beside").hint("do");
        diagnostics.push(label().at(Place { file, span: 12..21 }));
        diagnostics.push(Diagnostic::error("x", "y").at(Place { file, span: 8..13 }));
        diagnostics.push(Diagnostic::error("x", "y"));
        assert_eq!(
            serde_json::to_string(&diagnostics.records(&sources)).unwrap(),
            concat!(
                r#"[{"severity":"error","code":"x","file":"policy.toml","line":2,"column":1,"end_column":9,"#,
                r#""message":"y","label":"beside","hint":"do"},"#,
                r#"{"severity":"error","code":"x","file":"policy.toml","line":1,"column":9,"message":"y"},"#,
                r#"{"severity":"error","code":"x","message":"y"}]"#
            )
        );
    }

    #[test]
    fn errors_are_shown_before_warnings_give_out() {
        let mut diagnostics = Diagnostics::default();
        for _ in 0..MAX_SHOWN + 5 {
            diagnostics.push(Diagnostic::warning("w", "w"));
        }
        diagnostics.push(Diagnostic::error("e", "e"));
        assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
        assert_eq!(diagnostics.summary().unwrap(), "1 error, 205 warnings (6 of them not shown)");
    }
}
