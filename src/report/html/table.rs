//! Tables with a caption and named columns and rows, each in a box of its own that scrolls where it must.

use maud::{Markup, html};

/// So many columns fit a phone.
const FIT: usize = 4;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    Text,
    /// Long words.
    Name,
    /// Sentences.
    Long,
    Number,
    /// Not broken.
    Date,
}

impl Set {
    fn class(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Name => Some("name"),
            Self::Long => Some("long"),
            Self::Number => Some("n"),
            Self::Date => Some("d"),
        }
    }
}

/// A table under construction.
pub(super) struct Table<'c> {
    caption: &'c str,
    columns: &'c [(&'c str, Set)],
    is_cards: bool,
    rows: Vec<(bool, Vec<Markup>)>,
    more: usize,
}

impl<'c> Table<'c> {
    /// With these columns; the first names the row.
    pub(super) fn new(caption: &'c str, columns: &'c [(&'c str, Set)]) -> Self {
        Self { caption, columns, is_cards: false, rows: Vec::new(), more: 0 }
    }

    /// On a phone each row is a card, and nothing scrolls.
    pub(super) fn cards(self) -> Self {
        Self { is_cards: true, ..self }
    }

    /// So many rows of a list, each made by this.
    pub(super) fn of<T>(mut self, list: &[T], top: usize, row: impl FnMut(&T) -> Vec<Markup>) -> Self {
        self.rows.extend(list.iter().take(top).map(row).map(|row| (false, row)));
        self.more = list.len().saturating_sub(top);
        self
    }

    /// A row that sums up.
    pub(super) fn total(mut self, row: Vec<Markup>) -> Self {
        self.rows.push((true, row));
        self
    }

    pub(super) fn draw(self) -> Markup {
        html! {
            div.box.cards[self.is_cards].wide[!self.is_cards && self.columns.len() > FIT] role="region" aria-label=(self.caption) tabindex="0" {
                table {
                    caption { span { (self.caption) } }
                    thead {
                        tr {
                            @for (name, set) in self.columns { th scope="col" class=[set.class()] { (name) } }
                        }
                    }
                    tbody {
                        @for (is_total, row) in &self.rows {
                            tr.all[*is_total] {
                                @for (place, (name, set)) in self.columns.iter().enumerate() {
                                    @let value = row.get(place);
                                    @if place == 0 {
                                        th scope="row" class=[set.class()] { @if let Some(value) = value { (value) } }
                                    } @else {
                                        td class=[set.class()] data-label=(name) { @if let Some(value) = value { (value) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            @if self.more > 0 {
                p class="note" { "and " (crate::report::words::number(self.more as u64)) " more (report --all)" }
            }
        }
    }
}
