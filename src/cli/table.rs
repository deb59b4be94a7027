//! Tables for a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::terminal::safe;

/// Between two columns.
const GAP: usize = 2;
/// Narrowest a column becomes to make a table fit.
const NARROWEST: usize = 8;
/// Width of a terminal that does not say.
const DEFAULT_WIDTH: usize = 100;

/// A table that is gathered row by row.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Its texts may hold anything.
    pub(super) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| safe(cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text that fits the terminal; whole where stdout is none.
    pub(super) fn text(&self) -> String {
        let is_terminal = std::io::stdout().is_terminal();
        let colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
        self.within(is_terminal.then(terminal_width), colours)
    }

    fn within(&self, width: Option<usize>, colours: bool) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let head: Vec<_> = self.head.iter().map(|name| (*name).to_owned()).collect();
        line(&mut text, &head, &widths, colours.then_some(Look::Head));
        for row in &self.rows {
            line(&mut text, row, &widths, colours.then_some(Look::Row));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// How wide each column is: as its widest cell, and the widest column narrower until everything fits.
    fn widths(&self, width: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<_> = self.head.iter().map(|name| name.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let Some(most) = width else { return widths };
        let gaps = GAP.saturating_mul(widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>().saturating_add(gaps) > most {
            let Some(widest) = widths.iter_mut().max() else { break };
            if *widest <= NARROWEST {
                break;
            }
            *widest = widest.saturating_sub(1);
        }
        widths
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Head,
    Row,
}

fn line(text: &mut String, cells: &[String], widths: &[usize], look: Option<Look>) {
    for (cell, width) in cells.iter().zip(widths) {
        let cut = fitted(cell, *width);
        let space = width.saturating_sub(cut.width()).saturating_add(GAP);
        let colour = match look {
            None => None,
            Some(Look::Head) => Some("1"),
            Some(Look::Row) => colour(&cut),
        };
        // Writing to a String does not fail.
        match colour {
            Some(code) => write!(text, "\x1b[{code}m{cut}\x1b[0m"),
            None => write!(text, "{cut}"),
        }
        .unwrap_or_default();
        text.extend(std::iter::repeat_n(' ', space));
    }
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

/// The colour of a word that says how something stands.
fn colour(cell: &str) -> Option<&'static str> {
    match cell {
        "delivered" | "done" | "closed" | "accepted" => Some("32"),
        "dead" | "failed" | "open" | "refused" => Some("31"),
        "waiting" | "paused" | "probing" | "in_flight" | "running" | "held" => Some("33"),
        "discarded" | "cancelled" | "orphaned" => Some("2"),
        _ => None,
    }
}

fn fitted(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1usize;
    for character in cell.chars() {
        used = used.saturating_add(character.width().unwrap_or(0));
        if used > width {
            break;
        }
        cut.push(character);
    }
    cut + "\u{2026}"
}

/// What `COLUMNS` says, or the terminal itself.
fn terminal_width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    };
    said.or_else(asked).unwrap_or(DEFAULT_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "EVENT", "STATE"]);
        table.row(&["evt_1".into(), "build.a.very.long.name".into(), "dead".into()]);
        table.row(&["evt_2".into(), "日本語".into(), "ready".into()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_they_must_and_the_widest_gives_way() {
        assert_eq!(
            table().within(None, false),
            "ID     EVENT                   STATE\n\
             evt_1  build.a.very.long.name  dead\n\
             evt_2  日本語                  ready"
        );
        let narrow = table().within(Some(26), false);
        assert!(narrow.lines().all(|line| line.width() <= 26), "{narrow}");
        assert!(narrow.contains("build.a.ver\u{2026}"), "{narrow}");
        assert!(table().within(Some(1), false).lines().all(|line| line.width() <= 30));
    }

    #[test]
    fn colours_say_the_state_and_only_when_they_are_wanted() {
        assert!(table().within(None, true).contains("\x1b[31mdead\x1b[0m"));
        assert!(!table().within(None, false).contains('\x1b'));
    }
}
