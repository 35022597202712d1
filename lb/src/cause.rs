//! Causes of failures of upstreams, in words for a log.

use std::{fmt, io};

use rustix::io::Errno;

/// Most bytes of an answer or a message that an [`Excerpt`] keeps.
const EXCERPT: usize = 64;

/// Cause of a failed probe, dial or relay of an upstream.
///
/// ```
/// use std::io;
///
/// use lb::FailureCause;
///
/// let cause = FailureCause::of(&io::ErrorKind::ConnectionRefused.into());
/// assert_eq!(cause, FailureCause::Refused);
/// assert_eq!(cause.to_string(), "connection refused");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureCause {
    /// Nothing listens at the address.
    Refused,
    /// There is no route to it.
    Unreachable,
    /// The connection was not made in time.
    ConnectTimedOut,
    /// It did not answer in time.
    AnswerTimedOut,
    /// It reset the connection.
    Reset,
    /// It closed the connection without an answer.
    Closed,
    /// It took nothing of what was sent to it in time.
    Stalled,
    /// It gave another answer than expected.
    UnexpectedAnswer(Excerpt),
    /// Another failure.
    Other(Excerpt),
}

/// Kinds of errors that have a [`FailureCause`] of their own.
const WORDS: &[(&[io::ErrorKind], FailureCause)] = &[
    (&[io::ErrorKind::ConnectionRefused], FailureCause::Refused),
    (
        &[
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::NetworkDown,
        ],
        FailureCause::Unreachable,
    ),
    (&[io::ErrorKind::TimedOut], FailureCause::ConnectTimedOut),
    (
        &[
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
        ],
        FailureCause::Reset,
    ),
    (&[io::ErrorKind::UnexpectedEof], FailureCause::Closed),
];

impl FailureCause {
    /// Returns the cause for an error of a connection to an upstream: one of its own by the error's
    /// kind, otherwise [`FailureCause::Other`] with the error's message.
    pub fn of(error: &io::Error) -> Self {
        if error.get_ref().is_some() {
            return Self::Other(Excerpt::of(error.to_string().as_bytes()));
        }
        let kind = error.kind();
        let known = WORDS.iter().find(|(kinds, _)| kinds.contains(&kind));
        known.map_or_else(
            || Self::Other(Excerpt::of(error.to_string().as_bytes())),
            |(_, cause)| cause.clone(),
        )
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("no route to the upstream"),
            Self::ConnectTimedOut => f.write_str("connecting took too long"),
            Self::AnswerTimedOut => f.write_str("no answer in time"),
            Self::Reset => f.write_str("connection reset"),
            Self::Closed => f.write_str("closed without an answer"),
            Self::Stalled => f.write_str("did not read in time"),
            Self::UnexpectedAnswer(answer) => write!(f, "unexpected answer: {answer}"),
            Self::Other(message) => write!(f, "{message}"),
        }
    }
}

/// Returns true if the error is one of this process and not of the upstream: out of file
/// descriptors, of memory, or of local ports.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::OutOfMemory
    ) || matches!(
        Errno::from_io_error(error),
        Some(Errno::NFILE | Errno::MFILE | Errno::NOBUFS)
    )
}

/// The first bytes of an answer or of an error's message, short and safe to log.
///
/// ```
/// assert_eq!(lb::Excerpt::of(b"-ERR\r\n").to_string(), r"-ERR\r\n");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Keeps the first 64 bytes, with everything escaped that is not printable ASCII. Three dots
    /// mark that more followed.
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = bytes[..bytes.len().min(EXCERPT)].escape_ascii().to_string();
        if bytes.len() > EXCERPT {
            text.push_str("...");
        }
        Self(text.into())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_safe_to_log() {
        assert_eq!(
            Excerpt::of(b"-LOADING\r\n\x1b[2J\xff").to_string(),
            r"-LOADING\r\n\x1b[2J\xff"
        );
        let long = Excerpt::of(&[b'x'; 1000]).to_string();
        assert_eq!(long, "x".repeat(EXCERPT) + "...");
        let all = Excerpt::of(&[b'x'; EXCERPT]);
        assert_eq!(all.to_string(), "x".repeat(EXCERPT));
        assert_eq!(format!("{:?}", Excerpt::of(b"no\n")), r#""no\n""#);
    }

    #[test]
    fn every_way_to_fail_has_words_of_its_own() {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, PermissionDenied, TimedOut,
            UnexpectedEof,
        };
        let kinds = [
            ConnectionRefused,
            ConnectionReset,
            HostUnreachable,
            PermissionDenied,
            TimedOut,
            UnexpectedEof,
        ];
        let mut words: Vec<_> = kinds
            .map(|kind| FailureCause::of(&kind.into()).to_string())
            .into();
        words.push(FailureCause::AnswerTimedOut.to_string());
        words.push(FailureCause::UnexpectedAnswer(Excerpt::of(b"no")).to_string());
        words.push(FailureCause::of(&io::Error::other("not TLS")).to_string());
        words.sort();
        words.dedup();
        assert_eq!(words.len(), 9, "{words:?}");
    }

    #[test]
    fn what_only_we_lack_is_not_held_against_an_upstream() {
        assert!(
            is_ours(&io::Error::from_raw_os_error(24)),
            "too many open files"
        );
        assert!(
            is_ours(&io::ErrorKind::AddrNotAvailable.into()),
            "no local port left"
        );
        assert!(!is_ours(&io::ErrorKind::ConnectionRefused.into()));
        assert!(!is_ours(&io::ErrorKind::TimedOut.into()));
    }
}
