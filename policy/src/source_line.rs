//! Lines of a policy's file.

use policy_yaml::TextPosition;

/// Position of a name in a policy's file: line and column, both counted from 1.
///
/// All values are equal: a line that has moved is not a change of the policy. An item that did not
/// change therefore keeps the line that it had when it was first read.
#[derive(Debug, Clone, Copy)]
pub struct SourceLine(TextPosition);

impl SourceLine {
    pub(crate) fn of(at: TextPosition) -> Self {
        Self(at)
    }

    /// Returns the number of the line.
    pub fn number(self) -> u32 {
        self.0.line
    }

    /// Returns the line, and the column in characters.
    pub fn position(self) -> (u32, u32) {
        (self.0.line, self.0.column)
    }
}

impl PartialEq for SourceLine {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceLine {}
