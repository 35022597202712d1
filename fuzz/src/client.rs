//! A client that has its own idea of what may follow a handshake.

use arbitrary::Arbitrary;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::kernel::KernelConnection;
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};
use tls::record_layer::RecordLayer;

use crate::configs;

/// What the client does next.
#[derive(Debug, Arbitrary)]
pub enum Move {
    /// Seals data.
    Say(Vec<u8>),
    /// Seals so many bytes, which may be more than a record holds.
    SayMuch { byte: u8, length: u16 },
    /// Seals data with padding.
    Pad { content: Vec<u8>, zeros: u16 },
    /// Updates its key. `cut` bytes of the message are in a record of their own.
    UpdateKey { and_theirs: bool, cut: u8 },
    /// Seals an alert.
    Alert { level: u8, description: u8 },
    /// Seals whatever.
    Seal { kind: u8, content: Vec<u8> },
    /// Changes a byte of what is on its way, so far from the end.
    Tamper { at: u16, with: u8 },
    /// Sends the last record once more.
    Repeat,
    /// Takes back the last bytes.
    Truncate(u8),
    /// Sends what is not sealed.
    Raw(Vec<u8>),
}

impl Move {
    /// Handshake content, if the record has any or is of that type: what stands before its padding.
    fn handshake(&self) -> Option<&[u8]> {
        let Self::Seal { kind, content } = self else {
            return None;
        };
        if *kind != 0 {
            return (*kind == 22).then_some(content);
        }
        let end = content.iter().rposition(|&byte| byte != 0)?;
        (content[end] == 22).then_some(&content[..end])
    }

    /// Whether half a handshake message may be left behind it.
    pub(crate) fn may_leave_half(&self) -> bool {
        matches!(self, Self::UpdateKey { cut, .. } if cut % 5 != 0) || self.handshake().is_some()
    }

    /// Whether a key update may be asked for in return.
    pub(crate) fn may_request(&self) -> bool {
        let is_request = matches!(
            self,
            Self::UpdateKey {
                and_theirs: true,
                ..
            }
        );
        is_request || self.handshake().is_some()
    }

    /// Whether a handshake record has no content.
    pub(crate) fn is_empty_handshake(&self) -> bool {
        self.handshake().is_some_and(<[u8]>::is_empty)
    }
}

/// A client after its handshake.
pub struct Client {
    schedule: KernelConnection<ClientConnectionData>,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
    /// How long the last record was.
    last: usize,
}

impl Client {
    pub(crate) fn after(handshake: UnbufferedClientConnection) -> Self {
        let (secrets, schedule) = handshake
            .dangerous_into_kernel_connection()
            .expect("the handshake is over");
        Self {
            sequence: secrets.tx.0,
            encrypter: encrypter(&schedule, secrets.tx.1),
            schedule,
            last: 0,
        }
    }

    /// Seals a record and appends it to what is on its way.
    pub fn seal(&mut self, kind: ContentType, content: &[u8], wire: &mut Vec<u8>) {
        let message = OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter.encrypt(message, self.sequence);
        let record = sealed.expect("it is short enough").encode();
        self.last = record.len();
        wire.extend(record);
        self.sequence += 1;
    }

    /// Updates the key. `cut` bytes of the message are in a record of their own, if that leaves
    /// any.
    pub fn update_key(&mut self, request: bool, cut: u8, wire: &mut Vec<u8>) {
        let message = [24, 0, 0, 1, u8::from(request)];
        let (first, rest) = message.split_at(usize::from(cut) % message.len());
        if !first.is_empty() {
            self.seal(ContentType::Handshake, first, wire);
        }
        self.seal(ContentType::Handshake, rest, wire);
        let (sequence, secrets) = self.schedule.update_tx_secret().expect("TLS 1.3");
        self.sequence = sequence;
        self.encrypter = encrypter(&self.schedule, secrets);
    }

    /// Appends what comes of a move to what is on its way.
    pub fn make(&mut self, one: &Move, wire: &mut Vec<u8>) {
        let data = ContentType::ApplicationData;
        match one {
            Move::Say(content) => self.seal(data, content, wire),
            &Move::SayMuch { byte, length } => {
                let content = vec![byte; usize::from(length) % ((1 << 14) + 512)];
                self.seal(data, &content, wire);
            }
            Move::Pad { content, zeros } => {
                // What stands behind the type is padding; the seal adds a zero as its type.
                let mut inner = content.clone();
                inner.push(23);
                inner.resize(inner.len() + usize::from(*zeros) % (1 << 14), 0);
                self.seal(ContentType::from(0), &inner, wire);
            }
            &Move::UpdateKey { and_theirs, cut } => self.update_key(and_theirs, cut, wire),
            &Move::Alert { level, description } => {
                self.seal(ContentType::Alert, &[level, description], wire);
            }
            Move::Seal { kind, content } => self.seal(ContentType::from(*kind), content, wire),
            &Move::Tamper { at, with } => {
                let place = wire.len().checked_sub(usize::from(at) + 1);
                if let Some(byte) = place.and_then(|place| wire.get_mut(place)) {
                    *byte ^= with;
                }
            }
            Move::Repeat => {
                let begin = wire.len().saturating_sub(self.last);
                wire.extend_from_within(begin..);
            }
            &Move::Truncate(length) => {
                wire.truncate(wire.len().saturating_sub(usize::from(length)));
            }
            Move::Raw(bytes) => wire.extend_from_slice(bytes),
        }
    }
}

fn encrypter(
    schedule: &KernelConnection<ClientConnectionData>,
    secrets: ConnectionTrafficSecrets,
) -> Box<dyn MessageEncrypter> {
    let suite = schedule.negotiated_cipher_suite();
    let aead = suite.tls13().expect("TLS 1.3").aead_alg;
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => aead.encrypter(key, iv),
        _ => unreachable!("no other AEAD was offered"),
    }
}

/// The gateway's record layer and its client, after a handshake with one of the suites.
pub fn pair(suite: u8) -> (RecordLayer, Client) {
    let ends = configs::handshake(configs::of(suite));
    let session = RecordLayer::after(ends.server).expect("the handshake is over");
    (session, Client::after(ends.client))
}

/// A wire in pieces of these sizes, over and over, or in one.
pub fn pieces<'a>(wire: &'a [u8], sizes: &'a [u16]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().map(|&size| usize::from(size).max(1)).cycle();
    let mut left = wire;
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(left.len()).min(left.len());
        let (piece, rest) = left.split_at(size);
        left = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
