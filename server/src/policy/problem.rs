//! What is wrong with a policy's text, and where.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::gateway::{TlsFile, TlsFiles};

/// Problems that are told; whoever has more starts with these.
const MOST_PROBLEMS: usize = 20;

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct TextPosition {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl TextPosition {
    pub(super) fn new(line: usize, column: usize) -> Self {
        let bounded = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: bounded(line),
            column: bounded(column),
        }
    }
}

/// One thing that is wrong, where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What is wrong, what was expected, and what may have been meant.
    pub message: String,
}

/// What is wrong with a policy, or with the files that it names: the first problems, in the order of the
/// policy's file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct PolicyError {
    file: Arc<str>,
    problems: Vec<Problem>,
    unreported: usize,
    files: Option<Box<TlsFiles>>,
}

impl PolicyError {
    /// The problems, in the order of the file; 20 at most.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The error of a policy that is right and names files that are not.
    pub(crate) fn of_files(file: &Arc<str>, files: &TlsFiles) -> Self {
        let mut problems = ProblemList::default();
        problems.name_files(files);
        problems.into_error(file)
    }

    /// The files that the policy names, if it is known which.
    pub(crate) fn files(&self) -> Option<&TlsFiles> {
        self.files.as_deref()
    }

    /// The same with what is wrong with the files.
    #[must_use]
    pub(crate) fn with(mut self, faults: impl IntoIterator<Item = (TlsFile, String)>) -> Self {
        let positions = self.files.as_ref().map(|files| &files.positions);
        let faults = faults.into_iter().map(|(file, message)| {
            let TextPosition { line, column } =
                positions.map_or_else(TextPosition::default, |positions| positions.at(file));
            Problem {
                line,
                column,
                message,
            }
        });
        self.problems.extend(faults);
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        self.unreported += self.problems.len().saturating_sub(MOST_PROBLEMS);
        self.problems.truncate(MOST_PROBLEMS);
        self
    }

    /// How many more there are.
    pub(crate) fn unreported(&self) -> usize {
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

/// Gathers problems while a text is read.
#[derive(Debug, Default)]
pub(super) struct ProblemList {
    found: Vec<(TextPosition, String)>,
    skipped: usize,
    files: Option<Box<TlsFiles>>,
}

impl ProblemList {
    pub(super) fn report(&mut self, at: TextPosition, message: impl Into<String>) {
        self.found.push((at, message.into()));
    }

    /// Takes note of the files that the policy names, whatever else is wrong with it.
    pub(super) fn name_files(&mut self, files: &TlsFiles) {
        self.files = Some(Box::new(files.clone()));
    }

    /// Counts places where there is, or may be, a problem that nobody looks for any more.
    pub(super) fn skip(&mut self, count: usize) {
        self.skipped += count;
    }

    /// Whether there are more than will be told, so that no time is spent on where the next one is.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() > MOST_PROBLEMS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The error that they make.
    pub(super) fn into_error(mut self, file: &Arc<str>) -> PolicyError {
        self.found.sort_by_key(|(at, _)| *at);
        let untold = self.found.len().saturating_sub(MOST_PROBLEMS) + self.skipped;
        self.found.truncate(MOST_PROBLEMS);
        let problems = self
            .found
            .into_iter()
            .map(|(TextPosition { line, column }, message)| Problem {
                line,
                column,
                message,
            })
            .collect();
        PolicyError {
            file: Arc::clone(file),
            problems,
            unreported: untold,
            files: self.files,
        }
    }
}

/// `; did you mean …?` if one of `known` looks like `word`, else nothing.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let near = known
        .into_iter()
        .filter(|known| known.len().abs_diff(word.len()) <= 4)
        .map(|known| (strsim::osa_distance(word, known), known))
        .filter(|(distance, known)| *distance <= (known.chars().count() / 3).clamp(1, 4))
        .min();
    near.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    })
}
