//! A page of metrics, taken apart by the letter: every line must be one of those that the format has.

use std::collections::BTreeMap;

/// A series: its name, and its labels in order.
pub(crate) type Series = (String, BTreeMap<String, String>);

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Page {
    /// By name, the type.
    pub(crate) types: BTreeMap<String, String>,
    /// By name, what it tells.
    pub(crate) help: BTreeMap<String, String>,
    /// Every number.
    pub(crate) series: BTreeMap<Series, f64>,
}

impl Page {
    /// Takes a page apart; the end of an OpenMetrics page must be said.
    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert_eq!(page.help.insert(name.to_owned(), help.to_owned()), None, "twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(page.types.insert(name.to_owned(), kind.to_owned()), None, "twice: {line}");
            } else if line != "# EOF" {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no number: {line:?}"));
                let value = value.parse().unwrap_or_else(|e| panic!("{e}: {line:?}"));
                assert_eq!(page.series.insert(parse_series(series), value), None, "twice: {line}");
            }
        }
        page
    }

    /// The sum of all series of a name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| found.get(*name).map_or("", String::as_str) == *value)
        };
        self.series.iter().filter(|((found, of), _)| found == name && has(of)).map(|(_, value)| value).sum()
    }

    /// The one number of a name with these labels.
    pub(crate) fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        *self.series.get(&(name.to_owned(), labels)).unwrap_or_else(|| panic!("no {name}"))
    }
}

fn parse_series(text: &str) -> Series {
    let Some((name, rest)) = text.split_once('{') else { return (text.to_owned(), BTreeMap::new()) };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("no end: {text:?}"));
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value: {text:?}"));
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("no end of a value: {text:?}")) {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("an escape that the format does not have, {c:?}: {text:?}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert_eq!(labels.insert(label.to_owned(), value), None, "a label twice: {text:?}");
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels)
}
