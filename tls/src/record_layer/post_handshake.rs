//! Messages after the handshake other than data: key updates (RFC 9846, 4.7.3) and alerts (6).

use std::time::{Duration, Instant};

use rustls::{AlertDescription, ContentType, HandshakeType};

use super::record::{MAX_PLAINTEXT, RecordContent, RecordError};
use peer::budget::Budget;

/// Rate limit of handshake messages, fragments of them and warnings: 32 at once, and one more each
/// 100 ms. A key update costs 2.5 us and some tens of bytes; clients that stay for days send one
/// occasionally.
const MESSAGES: Budget = Budget::new(32, Duration::from_millis(100));
/// Rate limit of records without data: 256 at once, and one more each millisecond. They cost no
/// more than records with one byte, and can serve to hide the length of the data (RFC 9846, 5.4).
const EMPTY_RECORDS: Budget = Budget::new(256, Duration::from_millis(1));

/// Key update that requests none in return, with its handshake header.
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// State of the messages that a peer has sent after the handshake.
#[derive(Debug)]
pub(super) struct PostHandshakeState {
    /// Beginning of a message that was fragmented over several records.
    partial: [u8; KEY_UPDATE.len()],
    length: u8,
    key_update_pending: bool,
    messages: Budget,
    empty_records: Budget,
}

impl Default for PostHandshakeState {
    fn default() -> Self {
        Self {
            partial: [0; KEY_UPDATE.len()],
            length: 0,
            key_update_pending: false,
            messages: MESSAGES,
            empty_records: EMPTY_RECORDS,
        }
    }
}

impl PostHandshakeState {
    /// Returns true if the peer has requested a key update.
    pub(super) fn is_key_update_pending(&self) -> bool {
        self.key_update_pending
    }

    /// Notes that a key update was sent to the peer.
    pub(super) fn clear_key_update(&mut self) {
        self.key_update_pending = false;
    }

    /// Processes the plaintext of a record (5.4): its content, its type, and then zeros. `now` is
    /// called only for records without data.
    ///
    /// # Errors
    ///
    /// The record violates the protocol or exceeds a rate limit.
    pub(super) fn take(
        &mut self,
        inner: &[u8],
        now: impl FnOnce() -> Instant,
    ) -> Result<RecordContent, RecordError> {
        if inner.len() > MAX_PLAINTEXT + 1 {
            return Err(RecordError::Oversized);
        }
        let end = inner.iter().rposition(|&byte| byte != 0);
        let end = end.ok_or(RecordError::Unexpected)?;
        let content = &inner[..end];
        let kind = ContentType::from(inner[end]);
        if kind == ContentType::Handshake {
            self.spend(now)?;
            return self.handshake(content);
        }
        // The fragments of a message may have nothing between them (5.1).
        if self.length > 0 {
            return Err(RecordError::Unexpected);
        }
        if kind == ContentType::ApplicationData {
            self.data(end, now)
        } else if kind == ContentType::Alert {
            self.spend(now)?;
            alert(content)
        } else {
            Err(RecordError::Unexpected)
        }
    }

    /// Processes a record of application data with this number of bytes.
    fn data(
        &mut self,
        length: usize,
        now: impl FnOnce() -> Instant,
    ) -> Result<RecordContent, RecordError> {
        if length > 0 {
            return Ok(RecordContent::Data(length));
        }
        if self.empty_records.spend(now()) {
            Ok(RecordContent::Nothing)
        } else {
            Err(RecordError::EmptyRecords)
        }
    }

    /// Processes a record with a handshake message or a fragment of one.
    fn handshake(&mut self, content: &[u8]) -> Result<RecordContent, RecordError> {
        if content.is_empty() {
            return Err(RecordError::Unexpected);
        }
        for &byte in content {
            // Nothing may follow a key update in its record, because the next message has another
            // key.
            let place = self.partial.get_mut(usize::from(self.length));
            *place.ok_or(RecordError::Unexpected)? = byte;
            self.length += 1;
        }
        let [kind, length @ .., request] = self.partial;
        if HandshakeType::from(kind) != HandshakeType::KeyUpdate {
            return Err(RecordError::Unexpected);
        }
        // A wrong length is reported as soon as it is received.
        let come = usize::from(self.length) - 1;
        if length
            .iter()
            .zip(&KEY_UPDATE[1..])
            .take(come)
            .any(|(is, ought)| is != ought)
        {
            return Err(RecordError::Malformed);
        }
        if usize::from(self.length) < KEY_UPDATE.len() {
            return Ok(RecordContent::Nothing);
        }
        self.length = 0;
        match request {
            0 => {}
            // Several requests before anything was sent are answered once.
            1 => self.key_update_pending = true,
            _ => return Err(RecordError::Illegal),
        }
        Ok(RecordContent::KeyUpdate)
    }

    fn spend(&mut self, now: impl FnOnce() -> Instant) -> Result<(), RecordError> {
        if self.messages.spend(now()) {
            Ok(())
        } else {
            Err(RecordError::Messages)
        }
    }
}

/// Processes a record with an alert.
fn alert(content: &[u8]) -> Result<RecordContent, RecordError> {
    // The level has no meaning in TLS 1.3.
    let &[_, alert] = content else {
        return Err(RecordError::Malformed);
    };
    let alert = AlertDescription::from(alert);
    if alert == AlertDescription::CloseNotify {
        Ok(RecordContent::CloseNotify)
    } else if alert == AlertDescription::UserCanceled {
        // An orderly end is to follow.
        Ok(RecordContent::Nothing)
    } else {
        Err(RecordError::Alert(alert))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a time to begin with")]
mod tests {
    use super::*;

    /// What the records of handshake content come to, by the RFC's words and in no other way: the
    /// key updates that were asked for in return, or that the connection is lost.
    fn expected(records: &[&[u8]]) -> Option<Vec<bool>> {
        let (mut message, mut updates) = (Vec::new(), Vec::new());
        for record in records {
            let last = record.len().checked_sub(1)?;
            for (n, &byte) in record.iter().enumerate() {
                message.push(byte);
                match message[..] {
                    [24] | [24, 0] | [24, 0, 0] | [24, 0, 0, 1] => continue,
                    // The next record has another key, so an update ends its own.
                    [24, 0, 0, 1, request @ 0..=1] if n == last => updates.push(request == 1),
                    _ => return None,
                }
                message.clear();
            }
        }
        Some(updates)
    }

    fn taken(records: &[&[u8]]) -> Option<Vec<bool>> {
        let (mut updates, mut come) = (PostHandshakeState::default(), Vec::new());
        let now = Instant::now();
        for record in records {
            let mut inner = record.to_vec();
            inner.push(ContentType::Handshake.into());
            match updates.take(&inner, || now).ok()? {
                RecordContent::KeyUpdate => {
                    come.push(updates.is_key_update_pending());
                    updates.clear_key_update();
                }
                RecordContent::Nothing => {}
                RecordContent::Data(_) | RecordContent::CloseNotify => {
                    unreachable!("it is neither")
                }
            }
        }
        Some(come)
    }

    /// All ways to cut `bytes` into records, of which none is empty.
    fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
        (0..1_usize << bytes.len().saturating_sub(1)).map(|cuts| {
            let (mut records, mut from) = (Vec::new(), 0);
            for at in 1..bytes.len() {
                if cuts >> (at - 1) & 1 == 1 {
                    records.push(&bytes[from..at]);
                    from = at;
                }
            }
            records.push(&bytes[from..]);
            records
        })
    }

    #[test]
    fn every_short_sequence_of_handshake_bytes_in_every_cut_is_taken_as_the_rfc_says() {
        // A key update and one more byte; each byte that means anything, and one that never does.
        const BYTES: [u8; 5] = [24, 0, 1, 2, 255];
        let mut looked_at = 0;
        for length in 0..=6_u32 {
            for number in 0..5_usize.pow(length) {
                let bytes: Vec<u8> = (0..length)
                    .map(|place| BYTES[number / 5_usize.pow(place) % 5])
                    .collect();
                for records in cuts(&bytes) {
                    assert_eq!(taken(&records), expected(&records), "{records:?}");
                    looked_at += 1;
                }
            }
        }
        assert!(looked_at > 500_000, "{looked_at}");
    }

    #[test]
    fn two_key_updates_in_every_cut_are_two() {
        for requests in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            let bytes: Vec<u8> = requests
                .iter()
                .flat_map(|&request| [24, 0, 0, 1, request])
                .collect();
            for records in cuts(&bytes) {
                assert_eq!(taken(&records), expected(&records), "{records:?}");
            }
        }
    }

    #[test]
    fn every_alert_ends_the_stream_or_the_connection_but_user_canceled() {
        for level in 0..=255 {
            for description in 0..=255 {
                let content = alert(&[level, description]);
                match description {
                    0 => assert!(matches!(content, Ok(RecordContent::CloseNotify))),
                    90 => assert!(matches!(content, Ok(RecordContent::Nothing))),
                    other => assert!(
                        matches!(content, Err(RecordError::Alert(told)) if told == other.into()),
                        "{level} {other}"
                    ),
                }
            }
        }
        for wrong in [&[][..], &[1], &[1, 0, 0]] {
            assert!(
                matches!(alert(wrong), Err(RecordError::Malformed)),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn every_length_in_a_header_is_a_record_or_refused() {
        use super::super::record::{HEADER, MAX_CIPHERTEXT, TAG, length};
        for kind in 0..=255_u8 {
            for size in 0..=u16::MAX {
                let [high, low] = size.to_be_bytes();
                let told = length(&[kind, 3, 3, high, low]);
                let size = usize::from(size);
                match told {
                    _ if kind != 23 => assert_eq!(told, Err(RecordError::Unexpected)),
                    _ if size < TAG => assert_eq!(told, Err(RecordError::Forged)),
                    _ if size > MAX_CIPHERTEXT => assert_eq!(told, Err(RecordError::Oversized)),
                    _ => assert_eq!(told, Ok(Some(HEADER + size))),
                }
            }
        }
    }
}
