//! Lines of a policy's file.

use policy_yaml::TextPosition;

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
