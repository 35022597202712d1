//! TLS 1.3's record layer after the handshake (RFC 8446, section 5), for a server.
//!
//! rustls makes the handshake and goes on to derive the keys; this seals and opens records with them in
//! buffers that others own. It does no input or output: what a peer sends goes into [`RecordLayer::open`],
//! what it is to get comes out of [`RecordLayer::seal`].
//!
//! A kernel that does TLS by itself would take the place of the keys of both directions: it wants the same
//! secrets, and leaves the same messages to its user.

pub(crate) mod buffers;
mod keys;
mod post_handshake;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Instant;

use ring::aead::LessSafeKey;
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ContentType};
use thiserror::Error;

use keys::RecordKeys;
use post_handshake::PostHandshakeState;

/// The most plaintext that a record carries (5.1).
const MAX_PLAINTEXT: usize = 1 << 14;
/// The most that may follow a record's header (5.2).
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
/// The length of a record's header (5.2).
pub const HEADER: usize = 5;
/// The length of an AEAD's tag, which is the same for all suites that are spoken here.
const TAG: usize = 16;
/// How much longer a record is than what it carries: header, type and tag.
pub const OVERHEAD: usize = HEADER + 1 + TAG;
/// The length of the longest record.
pub const LONGEST: usize = HEADER + MAX_CIPHERTEXT;

/// How a peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record is longer than it may be.
    #[error("a record is longer than TLS allows")]
    Oversized,
    /// A record was not sealed with the peer's key, or was changed on its way.
    #[error("a record was forged or changed on its way")]
    Forged,
    /// A message that does not belong here.
    #[error("unexpected message")]
    Unexpected,
    /// More key updates, pieces of them or warnings than a client may send in the time.
    #[error("more key updates or warnings came than are allowed in the time")]
    Messages,
    /// More records without data than a client may send in the time.
    #[error("more records without data came than are allowed in the time")]
    EmptyRecords,
    /// A message is not written as it has to be.
    #[error("a message is malformed")]
    Malformed,
    /// A message has a value that it may not have.
    #[error("a message has an illegal value")]
    Illegal,
    /// The peer says that it gave up.
    #[error("the client sent the alert {0:?}")]
    Alert(AlertDescription),
}

impl RecordError {
    /// What the peer is told (RFC 8446, 6.2), unless it was itself who said so.
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

/// What came of opening records.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenedRecords {
    /// How many bytes of data there are now where the records began.
    pub data: usize,
    /// Where the records are, or the beginning of one, that were not opened.
    pub rest: Range<usize>,
    /// Why no more can be opened, if that is so. The peer's orderly end is not an error: whatever it sends
    /// behind that is ignored (6.1).
    pub end: Option<Result<(), RecordError>>,
}

/// What a record was.
enum RecordContent {
    /// So many bytes of data.
    Data(usize),
    /// Nothing for whoever reads the stream.
    Nothing,
    /// The key of all that follows is another one.
    KeyUpdate,
    /// The peer's orderly end.
    CloseNotify,
}

/// One connection's record layer, both directions.
pub struct RecordLayer {
    schedule: KernelConnection<ServerConnectionData>,
    opening: RecordKeys,
    sealing: RecordKeys,
    /// How many records one key may seal (5.5).
    limit: u64,
    updates: PostHandshakeState,
}

impl fmt::Debug for RecordLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl RecordLayer {
    /// Goes on where rustls is after a handshake: its configuration has to allow that secrets are
    /// extracted, and all that it has to say must have been said.
    pub fn after(handshake: UnbufferedServerConnection) -> Result<Self, rustls::Error> {
        let (secrets, schedule) = handshake.dangerous_into_kernel_connection()?;
        let rustls::SupportedCipherSuite::Tls13(suite) = schedule.negotiated_cipher_suite() else {
            return Err(rustls::Error::General("not a session of TLS 1.3".into()));
        };
        Ok(Self {
            opening: RecordKeys::new(secrets.rx)?,
            sealing: RecordKeys::new(secrets.tx)?,
            limit: suite.common.confidentiality_limit,
            schedule,
            updates: PostHandshakeState::default(),
        })
    }

    /// Opens all whole records in `space`. Their data comes to lie where `space` begins, without gaps.
    ///
    /// `now` is only asked for records that bring no data, of which there are so many per time.
    pub fn open(&mut self, space: &mut [u8], now: impl Fn() -> Instant) -> OpenedRecords {
        let mut opened = OpenedRecords {
            data: 0,
            rest: 0..space.len(),
            end: None,
        };
        let mut key = None;
        while opened.end.is_none() {
            match self.open_next(space, &mut opened, &mut key, &now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => opened.end = Some(Err(error)),
            }
        }
        opened
    }

    /// Opens the first record of the rest, if it is whole.
    fn open_next(
        &mut self,
        space: &mut [u8],
        opened: &mut OpenedRecords,
        key: &mut Option<LessSafeKey>,
        now: impl Fn() -> Instant,
    ) -> Result<bool, RecordError> {
        let length = length(&space[opened.rest.clone()])?;
        let Some(length) = length.filter(|&length| length <= opened.rest.len()) else {
            return Ok(false);
        };
        let expanded = key.get_or_insert_with(|| self.opening.expand());
        let gap = opened.rest.start + HEADER - opened.data;
        opened.rest.start += length;
        let space = &mut space[opened.data..opened.rest.start];
        let inner = self.opening.open(expanded, space, gap)?;
        match self.updates.take(inner, now)? {
            RecordContent::Data(length) => opened.data += length,
            RecordContent::Nothing => {}
            RecordContent::KeyUpdate => {
                let next = self.schedule.update_rx_secret();
                self.opening = next
                    .and_then(RecordKeys::new)
                    .map_err(|_| RecordError::Unexpected)?;
                *key = None;
            }
            RecordContent::CloseNotify => opened.end = Some(Ok(())),
        }
        Ok(true)
    }

    /// Seals as much of `plain` into `out` as fits there. Returns how much that was, and how much it became.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<(usize, usize), rustls::Error> {
        let (mut taken, mut written) = (0, 0);
        let mut key = self.sealing.expand();
        while taken < plain.len() {
            if self.is_stale() {
                if out.len() - written < OVERHEAD + post_handshake::KEY_UPDATE.len() {
                    break;
                }
                written += self.refresh(&key, &mut out[written..])?;
                key = self.sealing.expand();
            }
            let room = (out.len() - written).saturating_sub(OVERHEAD);
            let length = (plain.len() - taken).min(MAX_PLAINTEXT).min(room);
            if length == 0 {
                break;
            }
            let content = &plain[taken..][..length];
            let out = &mut out[written..];
            written += self
                .sealing
                .seal(&key, ContentType::ApplicationData, content, out)?;
            taken += length;
        }
        Ok((taken, written))
    }

    /// Seals a record without data. Returns how long it is.
    pub fn seal_nothing(&mut self, out: &mut [u8]) -> Result<usize, rustls::Error> {
        let key = self.sealing.expand();
        if self.is_stale() {
            return self.refresh(&key, out);
        }
        self.sealing
            .seal(&key, ContentType::ApplicationData, &[], out)
    }

    /// Seals an alert; `close_notify` says that nothing more will come. Returns how long the record is.
    pub fn seal_alert(
        &mut self,
        alert: AlertDescription,
        out: &mut [u8],
    ) -> Result<usize, rustls::Error> {
        let is_warning = alert == AlertDescription::CloseNotify;
        let level = if is_warning { 1 } else { 2 };
        let key = self.sealing.expand();
        self.sealing
            .seal(&key, ContentType::Alert, &[level, alert.into()], out)
    }

    /// Whether a key update has to come before the data that follows: the peer asked for one, or the key
    /// has sealed all that it may but the key update.
    fn is_stale(&self) -> bool {
        let used = self.sealing.used();
        self.updates.is_key_update_pending() || used > 0 && used + 1 >= self.limit
    }

    /// Seals a key update, and everything after it with the next key. Returns how long the record is.
    fn refresh(&mut self, key: &LessSafeKey, out: &mut [u8]) -> Result<usize, rustls::Error> {
        let written = self.sealing.seal(
            key,
            ContentType::Handshake,
            &post_handshake::KEY_UPDATE,
            out,
        )?;
        self.sealing = RecordKeys::new(self.schedule.update_tx_secret()?)?;
        self.updates.clear_key_update();
        Ok(written)
    }
}

/// How long the record is that begins here, as soon as that can be told.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    match *bytes {
        // The outer type of every record that is sealed; none is not.
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
