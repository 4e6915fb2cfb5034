//! Walking a TOML document: every field is known, of its type, and told of where it is not.
//!
//! Promises: a typo never passes silently, and one mistake does not hide the next.

use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Place};
use crate::policy::Day;
use std::borrow::Cow;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// Reads one file's document and tells what is wrong with it.
pub struct Walk<'d> {
    file: FileId,
    diagnostics: &'d mut Diagnostics,
}

/// One table, whose fields are taken one by one.
pub struct Fields<'t, 's> {
    table: &'t DeTable<'s>,
    /// Where the table stands.
    pub place: Place,
}

type Value<'s> = Spanned<DeValue<'s>>;

impl<'d> Walk<'d> {
    /// For one file.
    pub fn new(file: FileId, diagnostics: &'d mut Diagnostics) -> Self {
        Self { file, diagnostics }
    }

    /// Tells of something.
    pub fn tell(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// A place in this file.
    pub fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.file, span }
    }

    fn wrong_type(&mut self, value: &Value<'_>, name: &str, wanted: &str, hint: Option<&str>) {
        let found = value.get_ref().type_str();
        let mut diagnostic = Diagnostic::error("wrong-type", format!("`{name}` must be {wanted}"))
            .at(self.place(value.span()))
            .label(format!("this is {} {found}", article(found)));
        diagnostic.hint = hint.map(str::to_owned);
        self.tell(diagnostic);
    }

    /// Opens a table whose fields must be among `known`.
    pub fn fields<'t, 's>(
        &mut self,
        table: &'t DeTable<'s>,
        span: Range<usize>,
        what: &str,
        known: &[&str],
    ) -> Fields<'t, 's> {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let mut diagnostic =
                    Diagnostic::error("unknown-field", format!("unknown field `{name}` in {what}"))
                        .at(self.place(key.span()));
                diagnostic.hint = Some(match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                });
                self.tell(diagnostic);
            }
        }
        Fields { table, place: self.place(span) }
    }

    /// A value that must be a table.
    pub fn table<'t, 's>(
        &mut self,
        value: &'t Value<'s>,
        name: &str,
        known: &[&str],
    ) -> Option<Fields<'t, 's>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(self.fields(table, value.span(), &format!("`{name}`"), known)),
            _ => {
                self.wrong_type(value, name, "a table", None);
                None
            }
        }
    }

    /// A value that must be a string.
    pub fn string<'t>(&mut self, value: &'t Value<'_>, name: &str) -> Option<Located<Cow<'t, str>>> {
        match value.get_ref() {
            DeValue::String(text) => {
                Some(Located { value: Cow::Borrowed(text.as_ref()), place: self.place(value.span()) })
            }
            _ => {
                self.wrong_type(value, name, "a string", None);
                None
            }
        }
    }

    /// A value that must be a list of strings; a single string is a list of one.
    pub fn strings<'t>(&mut self, value: &'t Value<'_>, name: &str) -> Vec<Located<Cow<'t, str>>> {
        match value.get_ref() {
            DeValue::String(_) => self.string(value, name).into_iter().collect(),
            DeValue::Array(items) => items.iter().filter_map(|item| self.string(item, name)).collect(),
            _ => {
                self.wrong_type(value, name, "a list of strings", Some("write it as [\"…\", \"…\"]"));
                Vec::new()
            }
        }
    }

    /// A value that must be `true` or `false`.
    pub fn boolean(&mut self, value: &Value<'_>, name: &str) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(value, name, "true or false", None);
        }
        found
    }

    /// A value that must be a whole number within `range`.
    pub fn integer(
        &mut self,
        value: &Value<'_>,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(value, name, "a whole number", None);
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let found = number.filter(|number| range.contains(number));
        if found.is_none() {
            self.tell(
                Diagnostic::error(
                    "out-of-range",
                    format!("`{name}` must be between {} and {}", range.start(), range.end()),
                )
                .at(self.place(value.span())),
            );
        }
        found
    }

    /// A value that must be a date.
    pub fn date(&mut self, value: &Value<'_>, name: &str) -> Option<Located<Day>> {
        const HINT: &str = "write it without quotes and time, as 2027-01-15; days begin at 00:00 UTC";
        let date = match value.get_ref() {
            DeValue::Datetime(datetime) if datetime.time.is_none() => datetime.date,
            _ => None,
        };
        let Some(date) = date else {
            self.wrong_type(value, name, "a date", Some(HINT));
            return None;
        };
        let date =
            i16::try_from(date.year).ok().zip(i8::try_from(date.month).ok()).zip(i8::try_from(date.day).ok());
        match date.map(|((year, month), day)| jiff::civil::Date::new(year, month, day)) {
            Some(Ok(date)) => Some(Located { value: Day::of_date(date), place: self.place(value.span()) }),
            _ => {
                self.tell(
                    Diagnostic::error("bad-date", format!("`{name}` is no date of the calendar"))
                        .at(self.place(value.span())),
                );
                None
            }
        }
    }

    /// The format's version, which every file must give: an empty or truncated file must not pass for a
    /// policy without rules.
    pub fn version(&mut self, fields: &Fields<'_, '_>) {
        match fields.get("version") {
            None => {
                let at = self.place(0..0);
                self.tell(
                    Diagnostic::error("missing-version", "the file does not say `version = 1`").at(at).hint(
                        "begin it with `version = 1`; an empty file is refused, for it may be half-written",
                    ),
                );
            }
            Some(value) => {
                if self.integer(value, "version", i64::MIN..=i64::MAX).is_some_and(|version| version != 1) {
                    let at = self.place(value.span());
                    self.tell(
                        Diagnostic::error(
                            "unsupported-version",
                            "this program reads version 1 of the format",
                        )
                        .at(at)
                        .hint("a newer file needs a newer encr-milter"),
                    );
                }
            }
        }
    }
}

impl<'t, 's> Fields<'t, 's> {
    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&'t Value<'s>> {
        self.table.get(name)
    }

    /// Every field, name first.
    pub fn entries(&self) -> impl Iterator<Item = (&'t Spanned<Cow<'s, str>>, &'t Value<'s>)> {
        self.table.iter()
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Tells what the parser could not read. Of several complaints about one place the first is told: the rest
/// follows from it.
pub fn tell_syntax(file: FileId, errors: &[toml::de::Error], diagnostics: &mut Diagnostics) {
    let mut last = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if last.replace(span.start) != Some(span.start) {
            let diagnostic = Diagnostic::error("toml-syntax", error.message().to_owned());
            diagnostics.push(diagnostic.at(Place { file, span }));
        }
    }
}

/// The known word that a typo is nearest to, if it is near at all.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&word.replace('_', "-"), known), *known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min()
        .map(|(_, known)| known)
}
