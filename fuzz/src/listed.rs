//! The differences that are meant; `docs/security.md` lists them too.

use rustls::{AlertDescription, Error, InvalidMessage, PeerMisbehaved};
use tls::record_layer::{OVERHEAD, RecordError, length};

/// How many bytes come before the first header with another type or version than a sealed record
/// has. The gateway refuses another type at once, as RFC 9846 (5.2) says, and another version as
/// forged, since the header is sealed with the record. rustls opens such records, except that it
/// looks at the first byte of the version.
pub(crate) fn sound(wire: &[u8]) -> usize {
    let mut begin = 0;
    loop {
        let header = &wire[begin..wire.len().min(begin + 5)];
        if header
            .iter()
            .zip([23, 3, 3])
            .any(|(is, ought)| *is != ought)
        {
            return begin;
        }
        let &[_, _, _, high, low] = header else {
            return wire.len();
        };
        begin += 5 + usize::from(u16::from_be_bytes([high, low]));
        if begin >= wire.len() {
            return wire.len();
        }
    }
}

/// Limits that rustls counts in a row and the gateway by time.
pub(crate) fn is_limit(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerMisbehaved(
            PeerMisbehaved::TooManyKeyUpdateRequests | PeerMisbehaved::TooManyWarningAlertsReceived
        )
    )
}

/// The gateway ignores the level of an alert, as RFC 9846 (6) says: an orderly end is one at any
/// level, and so is `user_canceled` nothing. rustls refuses levels that it does not know.
pub(crate) fn is_same_alert(
    alert: AlertDescription,
    ours: Option<Result<(), RecordError>>,
) -> bool {
    match ours {
        Some(Err(record_error)) => {
            // What followed an alert that ends nothing here was looked at.
            record_error == RecordError::Alert(alert) || alert == AlertDescription::UserCanceled
        }
        Some(Ok(())) => {
            alert == AlertDescription::CloseNotify || alert == AlertDescription::UserCanceled
        }
        None => alert == AlertDescription::UserCanceled,
    }
}

/// Only a key update may come: another handshake message is refused at its first byte, and a wrong
/// length at its own, where rustls waits until the message is whole. So is a record whose header
/// has a length that no record has.
pub(crate) fn is_early(record_error: RecordError) -> bool {
    matches!(
        record_error,
        RecordError::Unexpected
            | RecordError::Malformed
            | RecordError::Oversized
            | RecordError::Forged
    )
}

/// Failures that both end with an alert, where more than one alert fits.
pub(crate) fn is_other_alert(record_error: RecordError, error: &Error) -> bool {
    match error {
        // rustls sends none here, where `unexpected_message` is due (5.1, 5.4).
        Error::PeerMisbehaved(
            PeerMisbehaved::IllegalTlsInnerPlaintext
            | PeerMisbehaved::MessageInterleavedWithHandshakeMessage,
        ) => record_error == RecordError::Unexpected,
        // A ciphertext of more than 2^14 + 256 bytes is `record_overflow` (5.2). rustls opens
        // longer ones, and looks at the plaintext.
        Error::DecryptError => record_error == RecordError::Oversized,
        // A type of record that may not come is `unexpected_message` (5), whether it is known or
        // not, and too large a length `record_overflow` (5.2).
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::InvalidEmptyPayload
            | InvalidMessage::InvalidCcs
            | InvalidMessage::MessageTooLarge,
        ) => matches!(
            record_error,
            RecordError::Unexpected | RecordError::Oversized
        ),
        _ => false,
    }
}

/// Whether two answers are the same, but for key updates at the end of a key: there rustls asks for
/// one in return, and the gateway does not.
pub(crate) fn is_same_answer(mut ours: &[u8], mut theirs: &[u8]) -> bool {
    while ours != theirs {
        let (Ok(Some(one)), Ok(Some(other))) = (length(ours), length(theirs)) else {
            return false;
        };
        // No data record with so little is followed by another.
        let is_update = one == OVERHEAD + 5 && ours.len() > one;
        if one != other || one > ours.len() || one > theirs.len() {
            return false;
        }
        if ours[..one] != theirs[..one] && !is_update {
            return false;
        }
        (ours, theirs) = (&ours[one..], &theirs[one..]);
    }
    true
}
