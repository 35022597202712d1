//! Positions in the text of a policy.

/// Line and column of the policy's file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct TextPosition {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl TextPosition {
    pub(crate) fn new(line: usize, column: usize) -> Self {
        let bounded = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: bounded(line),
            column: bounded(column),
        }
    }
}

/// Line number in a policy's file, counted from 1.
///
/// All values are equal: a line that has moved is not a change of the policy. An item that did not
/// change therefore keeps the line that it had when it was first read.
#[derive(Debug, Clone, Copy)]
pub struct SourceLine(u32);

impl SourceLine {
    pub(crate) fn of(at: TextPosition) -> Self {
        Self(at.line)
    }

    /// Returns the number of the line.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl PartialEq for SourceLine {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceLine {}
