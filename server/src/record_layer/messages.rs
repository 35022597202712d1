//! What may come after the handshake that is not data: key updates (RFC 8446, 4.6.3) and alerts (6).

use rustls::{AlertDescription, ContentType, HandshakeType};

use super::{Breach, Content, MOST_IDLE_RECORDS, MOST_PLAINTEXT};

/// A key update that asks for none in return, with its handshake header.
pub(super) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// What a peer's messages have come to so far.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// The beginning of a message that was cut into several records.
    begun: [u8; KEY_UPDATE.len()],
    length: u8,
    /// The records since the last one that brought data.
    idle: u8,
    owed: bool,
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

    /// Takes what was sealed in a record (5.4): its content, its type, and then zeros.
    pub(super) fn take(&mut self, inner: &[u8]) -> Result<Content, Breach> {
        if inner.len() > MOST_PLAINTEXT + 1 {
            return Err(Breach::Oversized);
        }
        let end = inner.iter().rposition(|&byte| byte != 0);
        let end = end.ok_or(Breach::Unexpected)?;
        let content = &inner[..end];
        let kind = ContentType::from(inner[end]);
        if kind == ContentType::Handshake {
            return self.handshake(content);
        }
        // The pieces of a message may have nothing between them (5.1).
        if self.length > 0 {
            return Err(Breach::Unexpected);
        }
        if kind == ContentType::ApplicationData {
            self.data(end)
        } else if kind == ContentType::Alert {
            self.alert(content)
        } else {
            Err(Breach::Unexpected)
        }
    }

    /// A record brought so many bytes of data.
    fn data(&mut self, length: usize) -> Result<Content, Breach> {
        if length > 0 {
            self.idle = 0;
            return Ok(Content::Data(length));
        }
        self.bring_nothing()?;
        Ok(Content::Nothing)
    }

    /// A record brought an alert.
    fn alert(&mut self, content: &[u8]) -> Result<Content, Breach> {
        // The level means nothing in TLS 1.3.
        let &[_, alert] = content else {
            return Err(Breach::Malformed);
        };
        let alert = AlertDescription::from(alert);
        if alert == AlertDescription::CloseNotify {
            return Ok(Content::CloseNotify);
        }
        // An orderly end is to follow.
        if alert == AlertDescription::UserCanceled {
            self.bring_nothing()?;
            return Ok(Content::Nothing);
        }
        Err(Breach::Alert(alert))
    }

    /// A record brought handshake messages, or a piece of one.
    fn handshake(&mut self, content: &[u8]) -> Result<Content, Breach> {
        self.bring_nothing()?;
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
        if usize::from(self.length) < KEY_UPDATE.len() {
            return Ok(Content::Nothing);
        }
        self.length = 0;
        match (length, request) {
            ([0, 0, 1], 0) => {}
            // Several requests before anything was sent are answered once.
            ([0, 0, 1], 1) => self.owed = true,
            ([0, 0, 1], _) => return Err(Breach::Illegal),
            _ => return Err(Breach::Malformed),
        }
        Ok(Content::KeyUpdate)
    }

    fn bring_nothing(&mut self) -> Result<(), Breach> {
        self.idle += 1;
        if self.idle > MOST_IDLE_RECORDS {
            return Err(Breach::Idle);
        }
        Ok(())
    }
}
