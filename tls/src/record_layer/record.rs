//! A sealed record's form (RFC 9846, 5.2), and the errors of a peer that breaks a rule.

use std::io;

use rustls::{AlertDescription, ContentType};
use thiserror::Error;

/// Maximum plaintext of a record in bytes (5.1).
pub(super) const MAX_PLAINTEXT: usize = 1 << 14;
/// Maximum length of a record without its header (5.2).
pub(super) const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
/// Length of a record's header (5.2).
pub const HEADER: usize = 5;
/// Length of an AEAD's tag, which is the same for all supported suites.
pub(super) const TAG: usize = 16;
/// Number of bytes that a record has in addition to its content: header, type and tag.
pub const OVERHEAD: usize = HEADER + 1 + TAG;
/// Length of the longest record, with its header.
pub const LONGEST: usize = HEADER + MAX_CIPHERTEXT;

/// Violation of the protocol by a peer. [`RecordError::alert`] returns the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record is longer than TLS allows.
    #[error("a record is longer than TLS allows")]
    Oversized,
    /// A record was not sealed with the peer's key, or was changed in transit.
    #[error("a record was forged or changed on its way")]
    Forged,
    /// A message that is not allowed here.
    #[error("unexpected message")]
    Unexpected,
    /// More key updates, fragments of them or warnings than a client may send per time.
    #[error("too many key updates or warnings in a short time")]
    Messages,
    /// More records without data than a client may send per time.
    #[error("too many records without data in a short time")]
    EmptyRecords,
    /// A message is malformed.
    #[error("a message is malformed")]
    Malformed,
    /// A message has an illegal value.
    #[error("a message has an illegal value")]
    Illegal,
    /// The peer aborted the connection with this alert.
    #[error("the client sent the alert {0:?}")]
    Alert(AlertDescription),
}

impl RecordError {
    /// Returns the alert to send to the peer (RFC 9846, 6.2). `None` if the peer itself sent an
    /// alert.
    pub fn alert(self) -> Option<AlertDescription> {
        match self {
            Self::Oversized => Some(AlertDescription::RecordOverflow),
            Self::Forged => Some(AlertDescription::BadRecordMac),
            Self::Unexpected | Self::Messages | Self::EmptyRecords => {
                Some(AlertDescription::UnexpectedMessage)
            }
            Self::Malformed => Some(AlertDescription::DecodeError),
            Self::Illegal => Some(AlertDescription::IllegalParameter),
            Self::Alert(_) => None,
        }
    }
}

impl From<RecordError> for io::Error {
    fn from(error: RecordError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Meaning of an opened record.
pub(super) enum RecordContent {
    /// This number of bytes of data.
    Data(usize),
    /// Nothing for the reader of the stream.
    Nothing,
    /// All records that follow are sealed with the next key.
    KeyUpdate,
    /// The peer's orderly end.
    CloseNotify,
}

/// Returns the length of the record that begins here, with its header; `None` until the header is
/// complete.
///
/// # Errors
///
/// The header is not that of a sealed record.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    match *bytes {
        // Every sealed record has this outer type, and only sealed records are allowed here.
        [kind, ..] if ContentType::from(kind) != ContentType::ApplicationData => {
            Err(RecordError::Unexpected)
        }
        [_, _, _, high, low, ..] => match usize::from(u16::from_be_bytes([high, low])) {
            0..TAG => Err(RecordError::Forged),
            TAG..=MAX_CIPHERTEXT => Ok(Some(HEADER + usize::from(u16::from_be_bytes([high, low])))),
            _ => Err(RecordError::Oversized),
        },
        _ => Ok(None),
    }
}
