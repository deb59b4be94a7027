//! Tables for a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::terminal::safe;

/// Between two columns.
const GAP: usize = 2;
/// Narrowest a column becomes to make a table fit.
const NARROWEST: usize = 6;
/// Width of a terminal that does not say.
const DEFAULT_WIDTH: usize = 100;

/// The column that other commands take, so that it is never cut; and moments, of which a part says nothing.
const ID: &str = "ID";
const KEPT: [&str; 3] = [ID, "RECEIVED", "BEGAN"];

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
        let head: Vec<_> = self.head.iter().map(|name| (*name).to_owned()).collect();
        let is_wide = width.is_none_or(|most| total(&self.widest(&self.rows)) <= most);
        let short = |row: &Vec<String>| row.iter().map(|cell| shortened(cell)).collect();
        let rows: Vec<Vec<String>> =
            if is_wide { self.rows.clone() } else { self.rows.iter().map(short).collect() };
        let widths = self.widths(&rows, width);
        let mut text = String::new();
        line(&mut text, &head, &widths, colours.then_some(Look::Head));
        for row in &rows {
            line(&mut text, row, &widths, colours.then_some(Look::Row));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// How wide each column is as its widest cell.
    fn widest(&self, rows: &[Vec<String>]) -> Vec<usize> {
        let mut widths: Vec<_> = self.head.iter().map(|name| name.width()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }

    /// How wide each column is: as its widest cell, then the widest column narrower until everything fits; and the last ones not
    /// at all, where even that is too wide.
    fn widths(&self, rows: &[Vec<String>], width: Option<usize>) -> Vec<usize> {
        let mut widths = self.widest(rows);
        let Some(most) = width else { return widths };
        let least = |(name, width): (&&str, &usize)| {
            if KEPT.contains(name) { *width } else { NARROWEST.min(*width) }
        };
        if self.head.contains(&ID) {
            let leasts: Vec<_> = self.head.iter().zip(&widths).map(least).collect();
            let shown = (1..=leasts.len()).rev();
            let fits = |count: &usize| leasts.get(..*count).is_some_and(|some| total(some) <= most);
            widths.truncate(shown.into_iter().find(fits).unwrap_or(1));
        }
        while total(&widths) > most {
            let named = self.head.iter().zip(widths.iter_mut());
            let others = named.filter(|(name, _)| !KEPT.contains(name)).map(|(_, width)| width);
            let Some(widest) = others.max() else { break };
            if *widest <= NARROWEST {
                break;
            }
            *widest = widest.saturating_sub(1);
        }
        widths
    }
}

/// The width of a line with these columns.
fn total(widths: &[usize]) -> usize {
    let gaps = GAP.saturating_mul(widths.len().saturating_sub(1));
    widths.iter().sum::<usize>().saturating_add(gaps)
}

/// A cell in which moments are without their year and fractions: `03-29 13:00:00`.
fn shortened(cell: &str) -> String {
    let word = |word: &str| {
        let parts = word.strip_suffix('Z').and_then(|at| at.split_once('T'));
        let day = parts.and_then(|(day, _)| day.get(4..)).and_then(|day| day.strip_prefix('-'));
        let time = parts.and_then(|(_, time)| time.get(..8));
        let is_time = |time: &str| time.bytes().all(|b| b.is_ascii_digit() || b == b':');
        match (day, time) {
            (Some(day), Some(time)) if day.len() == 5 && is_time(time) => format!("{day} {time}"),
            _ => word.to_owned(),
        }
    };
    cell.split(' ').map(word).collect::<Vec<_>>().join(" ")
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
    fn an_id_is_never_cut_and_moments_are_shortened_before_anything_is() {
        let mut table = Table::new(&["ID", "RECEIVED", "TARGET", "EVENT", "ATTEMPTS"]);
        let id = format!("evt_{}", "0".repeat(32));
        let at = "2026-03-29T13:00:00.123Z";
        table.row(&[id.clone(), at.into(), "billing".into(), "order.paid".into(), "3".into()]);
        assert!(table.within(None, false).contains(at));
        let shown = table.within(Some(80), false);
        assert!(
            shown.ends_with(&format!("{id}  03-29 13:00:00  billing  order.p\u{2026}  3")),
            "{shown}"
        );
        let narrow = table.within(Some(70), false);
        assert!(narrow.contains(&id) && narrow.lines().all(|line| line.width() <= 70), "{narrow}");
        assert!(!narrow.contains("ATTEMPTS"), "the last columns give way: {narrow}");
        let narrower = table.within(Some(60), false);
        assert!(
            narrower.contains("03-29 13:00:00  billi\u{2026}"),
            "a moment is whole or not there: {narrower}"
        );
        assert!(table.within(Some(10), false).contains(&id));
        assert_eq!(shortened("422 at 2026-03-29T13:00:00.123Z"), "422 at 03-29 13:00:00");
        for other in ["", "aT-Z", "2026-03-29Thello wZ", "日本T語Z", "x-yT12:00:00Z"] {
            assert_eq!(shortened(other), other);
        }
    }

    #[test]
    fn colours_say_the_state_and_only_when_they_are_wanted() {
        assert!(table().within(None, true).contains("\x1b[31mdead\x1b[0m"));
        assert!(!table().within(None, false).contains('\x1b'));
    }
}
