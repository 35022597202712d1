//! Positions in a text.

/// Line and column of a text, both counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextPosition {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
}

impl TextPosition {
    /// Creates a position; numbers beyond `u32::MAX` become that.
    pub fn new(line: usize, column: usize) -> Self {
        let bounded = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: bounded(line),
            column: bounded(column),
        }
    }
}
