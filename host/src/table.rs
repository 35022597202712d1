//! Text tables for people, as wide as their cells need and not wider than the terminal.

use std::fmt::Write as _;
use std::io;

use rustix::termios::tcgetwinsize;

/// Number of blanks between two columns.
const GAP: usize = 2;

/// Formats a number with its noun.
///
/// ```
/// use host::table::counted;
///
/// assert_eq!(counted(1, "authority", "authorities"), "1 authority");
/// assert_eq!(counted(2, "authority", "authorities"), "2 authorities");
/// ```
pub fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Alignment of the cells of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnAlign {
    /// To the left, for text.
    Left,
    /// To the right, for numbers.
    Right,
}

/// Table with a header and rows of cells.
#[derive(Debug)]
pub struct TextTable<const COLUMNS: usize> {
    header: [(&'static str, ColumnAlign); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> TextTable<COLUMNS> {
    /// Creates a table without rows.
    pub fn new(header: [(&'static str, ColumnAlign); COLUMNS]) -> Self {
        Self {
            header,
            rows: Vec::new(),
        }
    }

    /// Adds a row at the end.
    pub fn push(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// Returns the table as text, one line for each row.
    ///
    /// If that is wider than `width` characters, each cell has a line of its own after the name of
    /// its column, and a blank line separates the rows: nothing is cut off.
    pub fn to_text(&self, width: Option<usize>) -> String {
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.fold(self.header[column].0.len(), usize::max)
        });
        let needed = widths.iter().sum::<usize>() + GAP * COLUMNS.saturating_sub(1);
        if width.is_some_and(|width| needed > width) {
            return self.one_cell_a_line();
        }
        let mut text = line(self.header, self.header.map(|(name, _)| name), widths);
        for row in &self.rows {
            let cells = std::array::from_fn(|column| row[column].as_str());
            text += &line(self.header, cells, widths);
        }
        text
    }

    fn one_cell_a_line(&self) -> String {
        let names = self.header.iter().map(|(name, _)| name.len());
        let widest = names.max().unwrap_or(0) + GAP;
        let rows = self.rows.iter().map(|row| {
            let cells = self.header.iter().zip(row);
            cells.fold(String::new(), |mut text, ((name, _), cell)| {
                writeln!(text, "{name:widest$}{cell}").expect("a string takes all");
                text
            })
        });
        rows.collect::<Vec<_>>().join("\n")
    }
}

fn line<const COLUMNS: usize>(
    header: [(&'static str, ColumnAlign); COLUMNS],
    cells: [&str; COLUMNS],
    widths: [usize; COLUMNS],
) -> String {
    let mut text = String::new();
    for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(header) {
        let padded = match align {
            ColumnAlign::Left => format!("{cell:width$}"),
            ColumnAlign::Right => format!("{cell:>width$}"),
        };
        text += &padded;
        text += &" ".repeat(GAP);
    }
    text.trim_end().to_owned() + "\n"
}

/// Returns the width of the terminal behind the standard output, in characters: the value of
/// `COLUMNS`, or else what the terminal reports. `None` if the standard output is not a terminal.
pub fn terminal_width() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    let said = std::env::var("COLUMNS").ok();
    let said = said.and_then(|columns| columns.parse().ok());
    said.or(Some(usize::from(size.ws_col)))
        .filter(|&columns| columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable<2> {
        let mut table = TextTable::new([
            ("DESTINATION", ColumnAlign::Left),
            ("STEERED", ColumnAlign::Right),
        ]);
        table.push(["192.0.2.0/24:443".to_owned(), "7".to_owned()]);
        table.push(["[2001:db8::1]:443".to_owned(), "1200".to_owned()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = "DESTINATION        STEERED\n\
                    192.0.2.0/24:443         7\n\
                    [2001:db8::1]:443     1200\n";
        assert_eq!(table().to_text(None), text);
        assert_eq!(table().to_text(Some(26)), text);
    }

    #[test]
    fn a_table_that_is_wider_than_the_terminal_has_a_line_for_each_cell() {
        assert_eq!(
            table().to_text(Some(25)),
            "DESTINATION  192.0.2.0/24:443\n\
             STEERED      7\n\
             \n\
             DESTINATION  [2001:db8::1]:443\n\
             STEERED      1200\n"
        );
    }
}
