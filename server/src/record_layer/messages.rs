//! What may come after the handshake that is not data: key updates (RFC 8446, 4.6.3) and alerts (6).

use std::time::{Duration, Instant};

use rustls::{AlertDescription, ContentType, HandshakeType};

use super::{Breach, Content, MOST_PLAINTEXT};
use crate::budget::Budget;

/// How many handshake messages, pieces of them and warnings may come at once, and how soon one more. A
/// key update costs 2.5 us and some tens of bytes; clients that stay for days send one now and then.
const MESSAGES: Budget = Budget::new(32, Duration::from_millis(100));
/// The same of records without data, which cost no more than those with a byte. They may be there to hide
/// how much is said (RFC 8446, 5.4).
const EMPTY_RECORDS: Budget = Budget::new(256, Duration::from_millis(1));

/// A key update that asks for none in return, with its handshake header.
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// What a peer's messages have come to so far.
#[derive(Debug)]
pub(super) struct Updates {
    /// The beginning of a message that was cut into several records.
    begun: [u8; KEY_UPDATE.len()],
    length: u8,
    owed: bool,
    messages: Budget,
    empty_records: Budget,
}

impl Default for Updates {
    fn default() -> Self {
        Self {
            begun: [0; KEY_UPDATE.len()],
            length: 0,
            owed: false,
            messages: MESSAGES,
            empty_records: EMPTY_RECORDS,
        }
    }
}

impl Updates {
    /// Whether the peer asked for a key update.
    pub(super) fn is_owed(&self) -> bool {
        self.owed
    }

    /// The peer got its key update.
    pub(super) fn paid(&mut self) {
        self.owed = false;
    }

    /// Takes what was sealed in a record (5.4): its content, its type, and then zeros. Only for what is not
    /// data is it asked what time it is.
    pub(super) fn take(
        &mut self,
        inner: &[u8],
        now: impl FnOnce() -> Instant,
    ) -> Result<Content, Breach> {
        if inner.len() > MOST_PLAINTEXT + 1 {
            return Err(Breach::Oversized);
        }
        let end = inner.iter().rposition(|&byte| byte != 0);
        let end = end.ok_or(Breach::Unexpected)?;
        let content = &inner[..end];
        let kind = ContentType::from(inner[end]);
        if kind == ContentType::Handshake {
            self.spend(now)?;
            return self.handshake(content);
        }
        // The pieces of a message may have nothing between them (5.1).
        if self.length > 0 {
            return Err(Breach::Unexpected);
        }
        if kind == ContentType::ApplicationData {
            self.data(end, now)
        } else if kind == ContentType::Alert {
            self.spend(now)?;
            alert(content)
        } else {
            Err(Breach::Unexpected)
        }
    }

    /// A record brought so many bytes of data.
    fn data(&mut self, length: usize, now: impl FnOnce() -> Instant) -> Result<Content, Breach> {
        if length > 0 {
            return Ok(Content::Data(length));
        }
        if self.empty_records.spend(now()) {
            Ok(Content::Nothing)
        } else {
            Err(Breach::EmptyRecords)
        }
    }

    /// A record brought handshake messages, or a piece of one.
    fn handshake(&mut self, content: &[u8]) -> Result<Content, Breach> {
        if content.is_empty() {
            return Err(Breach::Unexpected);
        }
        for &byte in content {
            // Nothing may follow a key update in its record, for that has another key.
            let place = self.begun.get_mut(usize::from(self.length));
            *place.ok_or(Breach::Unexpected)? = byte;
            self.length += 1;
        }
        let [kind, length @ .., request] = self.begun;
        if HandshakeType::from(kind) != HandshakeType::KeyUpdate {
            return Err(Breach::Unexpected);
        }
        // A wrong length is told as soon as it has come, whatever is to follow.
        let come = usize::from(self.length) - 1;
        if length
            .iter()
            .zip(&KEY_UPDATE[1..])
            .take(come)
            .any(|(is, ought)| is != ought)
        {
            return Err(Breach::Malformed);
        }
        if usize::from(self.length) < KEY_UPDATE.len() {
            return Ok(Content::Nothing);
        }
        self.length = 0;
        match request {
            0 => {}
            // Several requests before anything was sent are answered once.
            1 => self.owed = true,
            _ => return Err(Breach::Illegal),
        }
        Ok(Content::KeyUpdate)
    }

    fn spend(&mut self, now: impl FnOnce() -> Instant) -> Result<(), Breach> {
        if self.messages.spend(now()) {
            Ok(())
        } else {
            Err(Breach::Messages)
        }
    }
}

/// A record brought an alert.
fn alert(content: &[u8]) -> Result<Content, Breach> {
    // The level means nothing in TLS 1.3.
    let &[_, alert] = content else {
        return Err(Breach::Malformed);
    };
    let alert = AlertDescription::from(alert);
    if alert == AlertDescription::CloseNotify {
        Ok(Content::CloseNotify)
    } else if alert == AlertDescription::UserCanceled {
        // An orderly end is to follow.
        Ok(Content::Nothing)
    } else {
        Err(Breach::Alert(alert))
    }
}
