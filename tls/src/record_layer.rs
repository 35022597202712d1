//! TLS 1.3's record layer after the handshake (RFC 9846, section 5), for a server.
//!
//! rustls completes the handshake and derives the keys; this seals and opens records with them in
//! buffers that belong to the caller. It does no input or output: received bytes go into
//! [`RecordLayer::open`], and bytes to be sent come out of [`RecordLayer::seal`].
//!
//! A kernel with TLS support (kTLS) would replace the keys of both directions: it needs the same
//! secrets, and leaves the same messages to its user.

mod keys;
mod post_handshake;
mod record;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a time to begin with")]
mod tests;

use std::fmt;
use std::ops::Range;
use std::time::Instant;

use ring::aead::LessSafeKey;
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ContentType};

use keys::RecordKeys;
use post_handshake::PostHandshakeState;
pub use record::{HEADER, LONGEST, OVERHEAD, RecordError, length};
use record::{MAX_PLAINTEXT, RecordContent};

/// Result of [`RecordLayer::open`].
#[derive(Debug, PartialEq, Eq)]
pub struct OpenedRecords {
    /// Number of bytes of data that are now at the beginning of the buffer.
    pub data: usize,
    /// Range of the records that were not opened, or of an incomplete record.
    pub rest: Range<usize>,
    /// End of the peer's stream, after which no record is opened. `Ok` is the peer's orderly end
    /// (`close_notify`): anything that it sends after that is ignored (6.1).
    pub end: Option<Result<(), RecordError>>,
}

/// One connection's record layer, for both directions.
pub struct RecordLayer {
    schedule: KernelConnection<ServerConnectionData>,
    opening: RecordKeys,
    sealing: RecordKeys,
    /// Number of records that may be sealed with one key (5.5).
    limit: u64,
    updates: PostHandshakeState,
}

impl fmt::Debug for RecordLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl RecordLayer {
    /// Takes over from rustls after a handshake.
    ///
    /// # Errors
    ///
    /// rustls' configuration does not allow the extraction of secrets, rustls still has bytes to
    /// send, or the version is not TLS 1.3.
    pub fn after(handshake: UnbufferedServerConnection) -> Result<Self, rustls::Error> {
        let (secrets, schedule) = handshake.dangerous_into_kernel_connection()?;
        let Some(suite) = schedule.negotiated_cipher_suite().tls13() else {
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

    /// Opens all complete records in `space`. Their data is moved to the beginning of `space`,
    /// without gaps.
    ///
    /// `now` is called only for records without data, whose rate is limited.
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

    /// Opens the first record of the rest. Returns false if it is incomplete.
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

    /// Seals as much of `plain` into `out` as fits there. Returns the number of bytes taken from
    /// `plain` and the number of bytes written to `out`.
    ///
    /// # Errors
    ///
    /// [`rustls::Error::EncryptError`] if the key refuses to seal, which it does when its records
    /// are used up.
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

    /// Seals a record without data. Returns the record's length.
    ///
    /// # Errors
    ///
    /// Those of [`Self::seal`].
    pub fn seal_nothing(&mut self, out: &mut [u8]) -> Result<usize, rustls::Error> {
        let key = self.sealing.expand();
        if self.is_stale() {
            return self.refresh(&key, out);
        }
        self.sealing
            .seal(&key, ContentType::ApplicationData, &[], out)
    }

    /// Seals an alert; `close_notify` announces the end of the stream. Returns the record's length.
    ///
    /// # Errors
    ///
    /// Those of [`Self::seal`].
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

    /// Returns true if a key update has to precede the next data: the peer requested one, or the
    /// key has sealed as many records as it may, except for the key update itself.
    fn is_stale(&self) -> bool {
        let used = self.sealing.used();
        self.updates.is_key_update_pending() || used > 0 && used + 1 >= self.limit
    }

    /// Seals a key update and switches to the next key. Returns the record's length.
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
