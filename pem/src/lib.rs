//! A reader of PEM (RFC 7468) that skips nothing.
//!
//! If a reader leaves out a part of a bundle of authorities or revocation lists, the author of the
//! bundle does not notice. So [`read`] accounts for every line: it belongs to a [`PemSection`], is
//! blank, is a comment that begins with `#`, or is text that openssl writes between sections.
//! Anything else, and an incomplete section, is a [`PemError`] with its line.
//!
//! All line ends (LF, CRLF, CR) are accepted, and also a byte order mark, indented sections, a
//! section on one line, and a section that begins on the line where another ends.
//!
//! ```
//! let text = "# ours\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
//! let sections = strict_pem::read(text.as_bytes()).unwrap();
//! assert_eq!(sections[0].label, "CERTIFICATE");
//! assert_eq!(sections[0].line, 2);
//! assert_eq!(sections[0].der, [0x30, 0x00]);
//! ```

#![forbid(unsafe_code)]

use thiserror::Error;

mod base64;
mod explanation;
mod line;

use line::{LinePart, pieces};

/// One section of a PEM text: the decoded bytes between a `BEGIN` line and its `END` line.
#[derive(Clone, PartialEq, Eq)]
pub struct PemSection {
    /// The section's type, such as `CERTIFICATE`.
    pub label: String,
    /// The decoded content.
    pub der: Vec<u8>,
    /// The line on which the section begins, counted from 1.
    pub line: usize,
}

/// Shows the label and the line; the content may be a private key.
impl std::fmt::Debug for PemSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Section")
            .field("label", &self.label)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// Error of [`read`]: a text that is not PEM from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct PemError {
    /// The line, counted from 1.
    pub line: usize,
    /// The fault in this line.
    pub fault: PemFault,
}

/// Faults of a text that should be PEM.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PemFault {
    /// The bytes are not UTF-8.
    #[error("not text; expected PEM, not DER")]
    NotText,
    /// A line outside of sections is neither blank, a comment nor openssl's text.
    #[error("expected a PEM section or a comment")]
    Stray,
    /// A line has dashes like a `BEGIN` or `END` line, but is not a complete one.
    #[error("malformed BEGIN or END line")]
    Boundary,
    /// A section begins within another, whose label this is.
    #[error("another section begins before the END line of the {0}")]
    Nested(String),
    /// The text ends within a section of this label.
    #[error("truncated PEM: the END line of the {0} is missing")]
    Unended(String),
    /// A section of this label ends that has not begun.
    #[error("the BEGIN line of the {0} is missing")]
    Unbegun(String),
    /// A section ends with another label than it began with.
    #[error("the section begins as {begun}, but ends as {ended}")]
    Mismatch {
        /// The label of `BEGIN`.
        begun: String,
        /// The label of `END`.
        ended: String,
    },
    /// The content of a section is not base64.
    #[error("truncated or malformed base64")]
    Base64,
    /// A section has no content.
    #[error("the section is empty")]
    Empty,
    /// The content is encrypted, and needs a passphrase.
    #[error("the {0} is encrypted; remove its passphrase")]
    Encrypted(String),
    /// A section has header lines (RFC 1421) other than those of encryption.
    #[error("the section has an unsupported header")]
    Header,
}

/// Reads all sections of a text, in their order; a text without sections gives none.
///
/// # Errors
///
/// The first line that is not valid, with its [`PemFault`].
pub fn read(text: &[u8]) -> Result<Vec<PemSection>, PemError> {
    let text = std::str::from_utf8(text).map_err(|error| PemError {
        line: 1 + count_newlines(&text[..error.valid_up_to()]),
        fault: PemFault::NotText,
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sections = Vec::new();
    let mut open = None;
    let mut line = 0;
    for content in physical_lines(text) {
        line += 1;
        read_line(content, line, &mut open, &mut sections)
            .map_err(|fault| PemError { line, fault })?;
    }
    match open {
        Some(OpenSection { label, .. }) => Err(PemError {
            line,
            fault: PemFault::Unended(label),
        }),
        None => Ok(sections),
    }
}

fn read_line(
    content: &str,
    line: usize,
    open: &mut Option<OpenSection>,
    sections: &mut Vec<PemSection>,
) -> Result<(), PemFault> {
    if open.is_none() && explanation::is_comment(content) {
        return Ok(());
    }
    for piece in pieces(content) {
        match (piece, open.take()) {
            (LinePart::Begin(label), None) => *open = Some(OpenSection::begin(label, line)?),
            (LinePart::Begin(_), Some(section)) => return Err(PemFault::Nested(section.label)),
            (LinePart::End(label), Some(section)) => sections.push(section.end(label)?),
            (LinePart::End(label), None) => return Err(PemFault::Unbegun(label.to_owned())),
            (LinePart::Broken, _) => return Err(PemFault::Boundary),
            (LinePart::Text(text), Some(mut section)) => {
                section.take(text)?;
                *open = Some(section);
            }
            (LinePart::Text(text), None) if explanation::is_of_openssl(text) => {}
            (LinePart::Text(_), None) => return Err(PemFault::Stray),
        }
    }
    Ok(())
}

/// Splits a text into lines, which end in LF, CRLF or CR.
fn physical_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn count_newlines(text: &[u8]) -> usize {
    text.split(|&byte| byte == b'\n').count() - 1
}

/// A section that has begun and not ended.
struct OpenSection {
    label: String,
    line: usize,
    content: String,
}

impl OpenSection {
    fn begin(label: &str, line: usize) -> Result<Self, PemFault> {
        match label.strip_prefix("ENCRYPTED ") {
            Some(what) => Err(PemFault::Encrypted(what.to_owned())),
            None => Ok(Self {
                label: label.to_owned(),
                line,
                content: String::new(),
            }),
        }
    }

    /// Adds a line of the content, or a part of one; a header line is an error.
    fn take(&mut self, text: &str) -> Result<(), PemFault> {
        if let Some((header, _)) = text.split_once(':') {
            return Err(match header.trim() {
                "Proc-Type" | "DEK-Info" => PemFault::Encrypted(self.label.clone()),
                _ => PemFault::Header,
            });
        }
        for character in text.chars().filter(|one| !one.is_ascii_whitespace()) {
            if !base64::is_digit(character) {
                return Err(PemFault::Base64);
            }
            self.content.push(character);
        }
        Ok(())
    }

    fn end(self, label: &str) -> Result<PemSection, PemFault> {
        if label != self.label {
            return Err(PemFault::Mismatch {
                begun: self.label,
                ended: label.to_owned(),
            });
        }
        if self.content.is_empty() {
            return Err(PemFault::Empty);
        }
        Ok(PemSection {
            label: self.label,
            der: base64::decode(&self.content).ok_or(PemFault::Base64)?,
            line: self.line,
        })
    }
}
