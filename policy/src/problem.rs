//! Problems of a policy's text, with their positions.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::tls_files::{TlsFile, TlsFiles};
use policy_yaml::TextPosition;

/// Largest number of problems that are reported; further ones are only counted.
const MOST_PROBLEMS: usize = 20;

/// One problem with its position in the policy's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Description of the problem, with what was expected and what may have been meant.
    pub message: String,
}

impl Problem {
    pub(crate) fn new((line, column): (u32, u32), message: String) -> Self {
        Self {
            line,
            column,
            message,
        }
    }
}

/// Problems of a policy or of the files that it names: the first 20 [`Problem`]s at most, in the
/// order of the policy's file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct PolicyError {
    file: Arc<str>,
    problems: Vec<Problem>,
    unreported: usize,
    files: Option<Box<TlsFiles>>,
}

impl PolicyError {
    /// Returns the problems, in the order of the file; 20 at most.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Creates the error for a valid policy that names files that are not valid. It has no problems
    /// yet: [`PolicyError::with`] adds them.
    pub fn of_files(file: &Arc<str>, files: &TlsFiles) -> Self {
        let mut problems = ProblemList::default();
        problems.name_files(files);
        problems.into_error(file)
    }

    /// Returns the files that the policy names; `None` if they are not known.
    pub fn files(&self) -> Option<&TlsFiles> {
        self.files.as_deref()
    }

    /// Adds problems of the files, each at the position where the policy names its file.
    #[must_use]
    pub fn with(mut self, faults: impl IntoIterator<Item = (TlsFile, String)>) -> Self {
        let positions = self.files.as_ref().map(|files| &files.positions);
        let faults = faults.into_iter().map(|(file, message)| {
            let at = positions.map_or_else(TextPosition::default, |positions| positions.at(file));
            Problem::new((at.line, at.column), message)
        });
        self.problems.extend(faults);
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        self.unreported += self.problems.len().saturating_sub(MOST_PROBLEMS);
        self.problems.truncate(MOST_PROBLEMS);
        self
    }

    /// Returns the number of problems that were found, or may exist, beyond the reported ones.
    pub fn unreported(&self) -> usize {
        self.unreported
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            n,
            Problem {
                line,
                column,
                message,
            },
        ) in self.problems.iter().enumerate()
        {
            let gap = if n == 0 { "" } else { "\n" };
            write!(f, "{gap}{}:{line}:{column}: {message}", self.file)?;
        }
        match self.unreported {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.file),
        }
    }
}

/// Problems that were found while a text is read.
#[derive(Debug, Default)]
pub(crate) struct ProblemList {
    found: Vec<(TextPosition, String)>,
    skipped: usize,
    files: Option<Box<TlsFiles>>,
}

impl ProblemList {
    pub(crate) fn report(&mut self, at: TextPosition, message: impl Into<String>) {
        self.found.push((at, message.into()));
    }

    /// Records the files that the policy names, also if the policy has other problems.
    pub(crate) fn name_files(&mut self, files: &TlsFiles) {
        self.files = Some(Box::new(files.clone()));
    }

    /// Counts places that are no longer checked because there are enough problems.
    pub(crate) fn skip(&mut self, count: usize) {
        self.skipped += count;
    }

    /// Returns true if there are more problems than are reported, so that the positions of further
    /// ones need not be computed.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() > MOST_PROBLEMS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Creates the error with these problems, in the order of the file.
    pub(crate) fn into_error(mut self, file: &Arc<str>) -> PolicyError {
        self.found.sort_by_key(|(at, _)| *at);
        let untold = self.found.len().saturating_sub(MOST_PROBLEMS) + self.skipped;
        self.found.truncate(MOST_PROBLEMS);
        let problems = self
            .found
            .into_iter()
            .map(|(at, message)| Problem::new((at.line, at.column), message))
            .collect();
        PolicyError {
            file: Arc::clone(file),
            problems,
            unreported: untold,
            files: self.files,
        }
    }
}

/// Returns `; did you mean …?` with the most similar of the `known` words, or an empty text if none
/// is similar to `word`.
pub(crate) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let near = known
        .into_iter()
        .filter(|known| known.len().abs_diff(word.len()) <= 4)
        .map(|known| (strsim::osa_distance(word, known), known))
        .filter(|(distance, known)| {
            let longer = known.chars().count().max(word.chars().count());
            *distance <= (known.chars().count() / 3).clamp(1, 4) && 2 * distance < longer
        })
        .min();
    near.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    })
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn only_a_word_that_is_more_alike_than_not_is_suggested() {
        let ledger = "; did you mean `ledger`?";
        assert_eq!(did_you_mean("lodger", ["ledger", "web"]), ledger);
        assert_eq!(did_you_mean("of", ["on", "off"]), "; did you mean `off`?");
        for (word, known) in [("c", "a"), ("bd", "db"), ("", "a"), ("xy", "xz")] {
            assert_eq!(did_you_mean(word, [known]), "", "{word} and {known}");
        }
    }
}
