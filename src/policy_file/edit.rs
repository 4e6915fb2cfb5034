//! A step of a rule, made in the text of the file that has it.
//!
//! Promises: what the step does not touch stays byte for byte, whichever way the modes are written (`observe = {…}`,
//! `observe.min-bits = …`, `[rule.observe]`) and whatever ends the lines; no comment is lost. What cannot be changed
//! so is refused, with words. Must not: judge the step, or whether the file is sound.

use crate::policy::rule::{Mode, ModeEntry};
use crate::policy::step::Step;
use std::ops::Range;
use toml_edit::{Document, Item, Key, Table, Value};

/// Fields of a mode that say how it acts, not what it demands.
const SETTINGS: [&str; 3] = ["percent", "max-delay", "from"];

/// Why a text is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No such text as [`has_rule`] looks for.
    #[error("there is no [[rule]] named `{0}` in the file")]
    NoRule(String),
    /// `rule = [{ … }]`
    #[error("rule `{0}` is written within `rule = […]`: write it as [[rule]], then it can be changed")]
    InlineRule(String),
    /// An inline table of several lines, with comments.
    #[error(
        "`{mode}` of rule `{rule}` has comments within its braces, which would be lost: write it in one line, \
         or as [rule.{mode}]"
    )]
    Comments {
        /// The rule.
        rule: String,
        /// The mode.
        mode: Mode,
    },
    /// A mode that the schema would not have taken.
    #[error("`{mode}` of rule `{rule}` is not written as a mode is")]
    NoMode {
        /// The rule.
        rule: String,
        /// The mode.
        mode: Mode,
    },
}

/// Whether a file has the rule.
pub fn has_rule(text: &str, rule: &str) -> bool {
    let missing = |document: Document<&str>| matches!(find(&document, rule), Err(EditError::NoRule(_)));
    Document::parse(text).is_ok_and(|document| !missing(document))
}

/// Makes the step in the text of the file that has the rule.
pub fn apply(text: &str, rule: &str, step: &Step) -> Result<String, EditError> {
    let document = Document::parse(text).map_err(|_| EditError::NoRule(rule.to_owned()))?;
    let table = find(&document, rule)?;
    let mut edit = Edit { text, rule, written: Vec::new(), edits: Vec::new() };
    for mode in Mode::HARDEST_FIRST {
        edit.written.extend(Written::of(table, rule, mode)?);
    }
    edit.step(step)?;
    Ok(edit.done())
}

fn find<'d>(document: &'d Document<&str>, rule: &str) -> Result<&'d Table, EditError> {
    let no_rule = || EditError::NoRule(rule.to_owned());
    match document.get("rule").ok_or_else(no_rule)? {
        Item::ArrayOfTables(rules) => {
            let named = |table: &&Table| table.get("name").and_then(Item::as_str) == Some(rule);
            rules.iter().find(named).ok_or_else(no_rule)
        }
        Item::Value(Value::Array(rules)) => {
            let mut names = rules.iter().filter_map(|rule| rule.as_inline_table()?.get("name")?.as_str());
            Err(if names.any(|name| name == rule) {
                EditError::InlineRule(rule.to_owned())
            } else {
                no_rule()
            })
        }
        _ => Err(no_rule()),
    }
}

/// How a mode is written.
#[derive(Clone, Debug)]
enum Form {
    /// `observe = { … }`: the key, and what is in braces.
    Inline(Range<usize>, Range<usize>),
    /// `observe.min-bits = …`
    Dotted,
    /// `[rule.observe]`: the header, and the key in it.
    Table(Range<usize>, Range<usize>),
}

/// A mode in the text.
#[derive(Clone, Debug)]
struct Written {
    mode: Mode,
    form: Form,
    /// In the order of the text.
    fields: Vec<Field>,
}

/// One field of it.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    key: Range<usize>,
    value: Range<usize>,
}

impl Field {
    fn is_demand(&self) -> bool {
        !SETTINGS.contains(&self.name.as_str())
    }

    fn span(&self) -> Range<usize> {
        self.key.start..self.value.end
    }
}

impl Written {
    fn of(table: &Table, rule: &str, mode: Mode) -> Result<Option<Self>, EditError> {
        let odd = || EditError::NoMode { rule: rule.to_owned(), mode };
        let Some((key, item)) = table.get_key_value(mode.as_str()) else { return Ok(None) };
        let field = |name: &str, key: Option<&Key>, value: Option<Range<usize>>| {
            Some(Field { name: name.to_owned(), key: key?.span()?, value: value? })
        };
        let key = key.span().ok_or_else(odd)?;
        let (form, fields): (Form, Option<Vec<Field>>) = match item {
            Item::Value(Value::InlineTable(inner)) => (
                Form::Inline(key, inner.span().ok_or_else(odd)?),
                inner.iter().map(|(name, value)| field(name, inner.key(name), value.span())).collect(),
            ),
            Item::Table(inner) => {
                let form = match inner.span() {
                    _ if inner.is_dotted() => Form::Dotted,
                    Some(header) => Form::Table(header, key),
                    None => return Err(odd()),
                };
                let value = |item: &Item| item.as_value().and_then(Value::span);
                (form, inner.iter().map(|(name, item)| field(name, inner.key(name), value(item))).collect())
            }
            _ => return Err(odd()),
        };
        let mut fields = fields.ok_or_else(odd)?;
        fields.sort_by_key(|field| field.key.start);
        let sound = fields.iter().any(Field::is_demand);
        if sound { Ok(Some(Self { mode, form, fields })) } else { Err(odd()) }
    }
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// What stands in its place.
    Becomes(Vec<String>),
}

struct Edit<'t> {
    text: &'t str,
    rule: &'t str,
    written: Vec<Written>,
    /// What is put in the place of what. Where two overlap, both only take away.
    edits: Vec<(Range<usize>, String)>,
}

impl<'t> Edit<'t> {
    fn step(&mut self, step: &Step) -> Result<(), EditError> {
        let place = step.place();
        for mode in step.gone().filter(|mode| Some(*mode) != place) {
            if let Some(entry) = self.of(mode) {
                self.remove(&entry)?;
            }
        }
        let source = step.source.and_then(|mode| self.of(mode));
        match (place.and_then(|mode| self.of(mode)), source) {
            (Some(entry), _) if entry.mode != step.to => self.change(&entry, step, &[]),
            (Some(entry), Some(source)) => {
                let demands = self.demands(&source)?;
                self.change(&entry, step, &demands)
            }
            (Some(entry), None) => self.change(&entry, step, &[]),
            (None, Some(source)) => self.write_beside(&source, step),
            (None, None) => Err(EditError::NoMode { rule: self.rule.to_owned(), mode: step.to }),
        }
    }

    fn of(&self, mode: Mode) -> Option<Written> {
        self.written.iter().find(|entry| entry.mode == mode).cloned()
    }

    fn at(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.edits.push((range, with.into()));
    }

    /// What a mode demands, as it is written.
    fn demands(&self, entry: &Written) -> Result<Vec<String>, EditError> {
        self.no_comments(entry)?;
        let demands = entry.fields.iter().filter(|field| field.is_demand());
        Ok(demands.map(|field| self.at(field.span()).to_owned()).collect())
    }

    /// Makes sure that there are no comments around the fields within braces: they would not know where to go.
    fn no_comments(&self, entry: &Written) -> Result<(), EditError> {
        match &entry.form {
            Form::Inline(_, braces) if self.has_comments(entry, braces) => {
                Err(EditError::Comments { rule: self.rule.to_owned(), mode: entry.mode })
            }
            _ => Ok(()),
        }
    }

    /// Whether there are comments in a place beside the fields in it. Within a value, `#` may be anything.
    fn has_comments(&self, entry: &Written, place: &Range<usize>) -> bool {
        let begins = entry.fields.iter().map(|field| field.key.start).chain([place.end]);
        let ends = [place.start].into_iter().chain(entry.fields.iter().map(|field| field.value.end));
        ends.zip(begins).any(|(end, begin)| self.at(end..begin).contains('#'))
    }

    /// The line of a place, without what ends it, and where the next line begins.
    fn line(&self, at: usize) -> (Range<usize>, usize) {
        let begin = self.at(0..at).rfind('\n').map_or(0, |end| end + 1);
        let rest = self.at(at..self.text.len());
        let next = rest.find('\n').map_or(self.text.len(), |end| at + end + 1);
        let line = self.at(begin..next);
        (begin..begin + line.trim_end_matches(['\r', '\n']).len(), next)
    }

    /// What stands before the first word of the line of a place.
    fn indent(&self, at: usize) -> &'t str {
        let (line, _) = self.line(at);
        let text = self.at(line);
        text.get(..text.len() - text.trim_start().len()).unwrap_or_default()
    }

    /// What ends lines here.
    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// Takes a statement out: its line, or, where a comment stands behind it, all of the line but that.
    fn remove_statement(&mut self, span: &Range<usize>) {
        let (last, next) = self.line(span.end);
        let begin = self.line(span.start).0.start;
        let behind = self.at(span.end..last.end);
        match behind.find('#') {
            Some(at) => {
                let indent = self.indent(span.start).len();
                self.replace(begin + indent..span.end + at, "");
            }
            None => self.replace(begin..next, ""),
        }
    }

    fn remove(&mut self, entry: &Written) -> Result<(), EditError> {
        match &entry.form {
            Form::Inline(key, braces) => {
                self.no_comments(entry)?;
                self.remove_statement(&(key.start..braces.end));
            }
            Form::Dotted => {}
            Form::Table(header, _) => {
                self.remove_statement(header);
                self.close_gap(entry, header);
            }
        }
        if !matches!(entry.form, Form::Inline(..)) {
            for field in &entry.fields {
                self.remove_statement(&field.span());
            }
        }
        Ok(())
    }

    /// Of the two blank lines around a table that goes without a trace, one goes with it.
    fn close_gap(&mut self, entry: &Written, header: &Range<usize>) {
        let blank = |line: Range<usize>| self.at(line).trim().is_empty();
        let begin = self.line(header.start).0.start;
        let (_, next) = self.line(entry.fields.last().map_or(header.end, |field| field.value.end));
        let Some(above) = begin.checked_sub(1).map(|at| self.line(at).0) else { return };
        if !self.has_comments(entry, &(header.end..next)) && blank(above.clone()) && blank(self.line(next).0)
        {
            self.replace(above.start..begin, "");
        }
    }

    /// Gives a mode another name where it stands.
    fn rename(&mut self, entry: &Written, fates: &[Fate], to: Mode) {
        match &entry.form {
            Form::Inline(key, braces) => {
                let equals = self.name_and_gap(entry, key, braces, to);
                let behind = key.end + self.at(key.end..braces.start).find('=').unwrap_or(0);
                self.replace(key.start..behind, equals);
            }
            Form::Table(_, key) => self.replace(key.clone(), to.as_str()),
            Form::Dotted => {
                let stay = entry.fields.iter().zip(fates).filter(|(_, fate)| **fate != Fate::Goes);
                for (field, _) in stay {
                    let begin = self.line(field.key.start).0.start + self.indent(field.key.start).len();
                    let path = self.at(begin..field.key.start);
                    let length = match path.chars().next() {
                        Some(quote @ ('"' | '\'')) => {
                            path.get(1..).and_then(|rest| rest.find(quote)).map(|at| at + 2)
                        }
                        _ => path.find(['.', ' ', '\t']),
                    };
                    self.replace(begin..begin + length.unwrap_or(path.len()), to.as_str());
                }
            }
        }
    }

    /// A mode's name and the blanks up to its `=`, which stays in the column that it shares with others.
    fn name_and_gap(&self, entry: &Written, key: &Range<usize>, braces: &Range<usize>, to: Mode) -> String {
        let gap = |key: &Range<usize>, braces: &Range<usize>| {
            let between = self.at(key.end..braces.start);
            between.find('=').filter(|at| between.bytes().take(*at).all(|b| b == b' '))
        };
        let column = |key: &Range<usize>, gap: usize| key.end - self.line(key.start).0.start + gap;
        let Some(own) = gap(key, braces) else {
            return format!("{to}{}", self.at(key.end..braces.start).split('=').next().unwrap_or_default());
        };
        let aligned = own > 1
            || self.written.iter().filter(|other| other.mode != entry.mode).any(|other| match &other.form {
                Form::Inline(other, braces) => gap(other, braces)
                    .is_some_and(|gap| own == 1 && gap > 0 && column(other, gap) == column(key, own)),
                _ => false,
            });
        let width = if aligned { (key.len() + own).saturating_sub(to.as_str().len()).max(1) } else { own };
        format!("{to}{}", " ".repeat(width))
    }

    /// Changes what a mode demands, where that is given, and how it acts.
    fn change(&mut self, entry: &Written, step: &Step, demands: &[String]) -> Result<(), EditError> {
        let mut fates: Vec<Fate> = vec![Fate::Stays; entry.fields.len()];
        let mut added = Vec::new();
        if !demands.is_empty() {
            let mut own = entry.fields.iter().zip(&mut fates).filter(|(field, _)| field.is_demand());
            if let Some((_, first)) = own.next() {
                *first = Fate::Becomes(demands.to_vec());
            }
            own.for_each(|(_, fate)| *fate = Fate::Goes);
        }
        let (before, after) = (step.before.get(entry.mode), step.after.get(step.to));
        for (setting, (was, wanted)) in
            SETTINGS.into_iter().zip(settings(before).into_iter().zip(settings(after)))
        {
            let mut found = entry.fields.iter().zip(&mut fates).filter(|(field, _)| field.name == setting);
            match (found.next(), wanted) {
                // In its own mode, a setting that says nothing (`percent = 100`) may stay.
                (Some(_), wanted) if wanted == was && (wanted.is_some() || entry.mode == step.to) => {}
                (Some((_, fate)), Some(value)) => *fate = Fate::Becomes(vec![format!("{setting} = {value}")]),
                (Some((_, fate)), None) => *fate = Fate::Goes,
                (None, Some(value)) => added.push(format!("{setting} = {value}")),
                (None, None) => {}
            }
        }
        if entry.mode != step.to {
            self.rename(entry, &fates, step.to);
        }
        if fates.iter().all(|fate| *fate == Fate::Stays) && added.is_empty() {
            return Ok(());
        }
        match &entry.form {
            Form::Inline(..) => {
                self.no_comments(entry)?;
                self.change_inline(entry, &fates, &added);
            }
            Form::Dotted => self.change_statements(entry, &fates, &added, &format!("{}.", step.to)),
            Form::Table(..) => self.change_statements(entry, &fates, &added, ""),
        }
        Ok(())
    }

    /// Within braces a field goes with the comma behind it, or, at the end, with the one before it.
    fn change_inline(&mut self, entry: &Written, fates: &[Fate], added: &[String]) {
        let mut last: Option<&Field> = None;
        let mut going: Option<usize> = None;
        for (field, fate) in entry.fields.iter().zip(fates) {
            if *fate == Fate::Goes {
                going.get_or_insert(field.key.start);
                continue;
            }
            if let Some(begin) = going.take() {
                self.replace(begin..field.key.start, "");
            }
            if let Fate::Becomes(parts) = fate {
                self.replace(field.span(), parts.join(", "));
            }
            last = Some(field);
        }
        // What is demanded never goes without another in its place, so that one field stays.
        if let Some(last) = last {
            self.replace(last.value.end..last.value.end, each_after(", ", added));
            if let Some(end) = going.and_then(|_| entry.fields.last()).map(|field| field.value.end) {
                self.replace(last.value.end..end, "");
            }
        }
    }

    fn change_statements(&mut self, entry: &Written, fates: &[Fate], added: &[String], path: &str) {
        let mut last = None;
        for (field, fate) in entry.fields.iter().zip(fates) {
            match fate {
                Fate::Stays => last = Some(field),
                Fate::Goes => self.remove_statement(&field.span()),
                Fate::Becomes(parts) => {
                    if let Some((first, more)) = parts.split_first() {
                        self.replace(field.span(), first);
                        self.add_lines(field.value.end, more, path);
                    }
                    last = Some(field);
                }
            }
        }
        if let Some(last) = last {
            self.add_lines(last.value.end, added, path);
        }
    }

    /// Adds statements below the line of a place, as far to the right as it.
    fn add_lines(&mut self, at: usize, lines: &[String], path: &str) {
        let end = self.line(at).0.end;
        let before = format!("{}{}{path}", self.line_end(), self.indent(at));
        self.replace(end..end, each_after(&before, lines));
    }

    /// Writes a mode below the one that its demand comes from, and in its manner.
    fn write_beside(&mut self, source: &Written, step: &Step) -> Result<(), EditError> {
        let mut parts = self.demands(source)?;
        let wanted = SETTINGS.into_iter().zip(settings(step.after.get(step.to)));
        parts.extend(wanted.filter_map(|(setting, value)| Some(format!("{setting} = {}", value?))));
        let end = source.fields.last().map_or(0, |field| field.value.end);
        match &source.form {
            Form::Inline(key, braces) => {
                let name = self.name_and_gap(source, key, braces, step.to);
                self.add_lines(braces.end, &[format!("{name}= {{ {} }}", parts.join(", "))], "");
            }
            Form::Dotted => self.add_lines(end, &parts, &format!("{}.", step.to)),
            Form::Table(header, key) => {
                let named =
                    [self.at(header.start..key.start), step.to.as_str(), self.at(key.end..header.end)];
                let (line_end, indent) = (self.line_end(), self.indent(header.start));
                let below = self.line(end).0.end;
                self.replace(below..below, format!("{line_end}{line_end}{indent}{}", named.concat()));
                self.add_lines(end, &parts, "");
            }
        }
        Ok(())
    }

    /// The text with all that was changed in it.
    fn done(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.text.len() + 64);
        let mut at = 0;
        for (range, with) in &self.edits {
            out.push_str(self.at(at..range.start));
            out.push_str(with);
            at = at.max(range.end);
        }
        out.push_str(self.at(at..self.text.len()));
        // A last line without an end may be another now.
        if !self.text.ends_with('\n') {
            out.truncate(out.trim_end_matches(['\r', '\n']).len());
        }
        out
    }
}

/// Each text with the same before it.
fn each_after(before: &str, texts: &[String]) -> String {
    texts.iter().flat_map(|text| [before, text]).collect()
}

/// How a mode acts, as values of [`SETTINGS`].
fn settings(entry: Option<&ModeEntry>) -> [Option<String>; 3] {
    let Some(entry) = entry else { return [None, None, None] };
    [
        entry.percent.map(|percent| percent.to_string()),
        entry.max_delay.map(|delay| format!("\"{delay}\"")),
        entry.from.map(|from| from.to_string()),
    ]
}

#[cfg(test)]
mod tests;
