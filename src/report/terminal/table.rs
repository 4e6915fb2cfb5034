//! Tables that fit a terminal: columns of less weight go first, and what is long breaks within its cell.
//!
//! Promises: no line is wider than asked, down to what one column needs; a column that went is named below.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table,
    TableStyle, Width, presets,
};

/// A line below the head, and none between rows.
const STYLE: TableStyle = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
/// Between two columns.
const GAP: u16 = 2;
/// How much of it is drawn by the style.
const SEPARATOR: u16 = 1;
/// A column of long texts is not made narrower than this before others go.
const LEAST: u16 = 22;

/// How a column is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    header: &'static str,
    is_number: bool,
    /// The higher, the sooner it goes; 0 stays.
    weight: u8,
    breaks: bool,
}

/// A column of long texts, which may break.
pub(super) const fn text(header: &'static str) -> Column {
    Column { header, is_number: false, weight: 0, breaks: true }
}

/// A column of short words.
pub(super) const fn word(header: &'static str) -> Column {
    Column { header, is_number: false, weight: 0, breaks: false }
}

/// A column of numbers.
pub(super) const fn count(header: &'static str) -> Column {
    Column { header, is_number: true, weight: 0, breaks: false }
}

impl Column {
    /// The same, but it goes where the terminal is narrow: those of the highest weight first.
    pub(super) const fn goes(self, weight: u8) -> Self {
        Self { weight, ..self }
    }
}

/// How a value is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Bad,
    Warning,
}

/// A value with its tone.
#[derive(Clone, Debug)]
pub(super) struct Value(pub(super) String, pub(super) Tone);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(text, Tone::Plain)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.to_owned(), Tone::Plain)
    }
}

/// What one looks at, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// How many columns the terminal has.
    pub width: u16,
    /// Whether it shows colours.
    pub colour: bool,
    /// How many lines of a list are shown.
    pub top: usize,
}

impl Look {
    /// Draws a table: its columns, and its rows with a value for each column.
    pub(super) fn table(&self, columns: &[Column], rows: Vec<Vec<Value>>) -> String {
        let (shown, gone) = self.fitting(columns, &rows);
        let mut table = Table::new();
        table
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.width.max(8));
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let is_shown = |place: &usize| shown.contains(place);
        let header = columns.iter().enumerate().filter(|(place, _)| is_shown(place));
        table.set_header(header.map(|(_, column)| Cell::new(column.header).add_attribute(Attribute::Bold)));
        let widths = widths(columns, &rows);
        for row in rows {
            let values = row.into_iter().enumerate().filter(|(place, _)| is_shown(place));
            table.add_row(values.map(|(_, value)| cell(value)));
        }
        let fits = Self::needed(columns, &widths, &shown) <= self.width;
        let last = shown.len().saturating_sub(1);
        for (column, (position, place)) in table.column_iter_mut().zip(shown.iter().enumerate()) {
            column.set_padding((0, if position == last { 0 } else { GAP - SEPARATOR }));
            let Some(wanted) = columns.get(*place) else { continue };
            if wanted.is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if !wanted.breaks && fits {
                let padding = column.padding_width();
                let width = widths.get(*place).copied().unwrap_or_default();
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + padding)));
            }
        }
        let mut out = String::new();
        for line in table.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if !gone.is_empty() {
            let gone: Vec<&str> = gone.into_iter().map(|column| column.header).collect();
            let said = format!("(not shown for want of width: {})", gone.join(", "));
            out.push_str(&self.paragraph(&said, ""));
        }
        out
    }

    /// The columns that fit, and those that do not.
    fn fitting<'c>(&self, columns: &'c [Column], rows: &[Vec<Value>]) -> (Vec<usize>, Vec<&'c Column>) {
        let widths = widths(columns, rows);
        let mut shown: Vec<usize> = (0..columns.len()).collect();
        let mut gone = Vec::new();
        while Self::needed(columns, &widths, &shown) > self.width {
            let weight = |place: &usize| columns.get(*place).map_or(0, |column| column.weight);
            // Of the same weight, the last goes first.
            let Some(heaviest) = shown.iter().copied().max_by_key(weight).filter(|place| weight(place) > 0)
            else {
                break;
            };
            shown.retain(|place| *place != heaviest);
            gone.extend(columns.get(heaviest));
        }
        gone.reverse();
        (shown, gone)
    }

    /// How wide a table with these columns is at the least.
    fn needed(columns: &[Column], widths: &[u16], shown: &[usize]) -> u16 {
        let of = |place: &usize| {
            let width = widths.get(*place).copied().unwrap_or_default();
            let breaks = columns.get(*place).is_some_and(|column| column.breaks);
            if breaks { width.min(LEAST) } else { width }
        };
        let gaps = GAP.saturating_mul(u16::try_from(shown.len().saturating_sub(1)).unwrap_or(u16::MAX));
        shown.iter().map(of).fold(gaps, u16::saturating_add)
    }

    /// A paragraph, broken at blanks, its lines behind the first begun with this.
    pub(super) fn paragraph(&self, text: &str, indent: &str) -> String {
        let mut table = Table::new();
        let width = self.width.saturating_sub(u16::try_from(indent.len()).unwrap_or(0)).max(8);
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width)
            .force_no_tty();
        table.add_row([Cell::new(text)]);
        if let Some(column) = table.column_mut(0) {
            column.set_padding((0, 0));
        }
        let mut out = String::new();
        for (number, line) in table.lines().enumerate() {
            if number > 0 {
                out.push_str(indent);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// A heading.
    pub(super) fn heading(&self, text: &str) -> String {
        let line = self.paragraph(text, "");
        if self.colour {
            format!("\n\u{1b}[1m{}\u{1b}[0m\n\n", line.trim_end())
        } else {
            let widest = line.lines().map(|line| line.chars().count()).max().unwrap_or_default();
            format!("\n{line}{}\n\n", "─".repeat(widest.min(usize::from(self.width))))
        }
    }
}

fn widths(columns: &[Column], rows: &[Vec<Value>]) -> Vec<u16> {
    let mut table = Table::new();
    table.set_header(columns.iter().map(|column| column.header));
    for row in rows {
        table.add_row(row.iter().map(|value| value.0.as_str()));
    }
    table.column_max_content_widths()
}

fn cell(value: Value) -> Cell {
    let cell = Cell::new(value.0);
    match value.1 {
        Tone::Plain => cell,
        Tone::Bad => cell.fg(Color::Red),
        Tone::Warning => cell.fg(Color::Yellow),
    }
}
