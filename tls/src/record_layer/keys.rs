//! Record protection of one direction.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::crypto::cipher::{self, AeadKey, Iv};
use rustls::{ConnectionTrafficSecrets, ContentType, Error};

use super::record::{HEADER, OVERHEAD, RecordError, TAG};

/// A key, its nonces, and the number of records that it was used for.
///
/// The expanded key of an AEAD takes half a kibibyte and a fifth of a microsecond to make: it
/// exists only while records are sealed or opened.
pub(super) struct RecordKeys {
    algorithm: &'static Algorithm,
    key: AeadKey,
    iv: Iv,
    sequence: u64,
}

impl RecordKeys {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("an AEAD that is not known".to_owned())),
        };
        Ok(Self {
            algorithm,
            key,
            iv,
            sequence,
        })
    }

    /// Returns the number of records that the key was used for.
    pub(super) fn used(&self) -> u64 {
        self.sequence
    }

    /// Expands the key for sealing and opening records.
    pub(super) fn expand(&self) -> LessSafeKey {
        let key = UnboundKey::new(self.algorithm, self.key.as_ref());
        LessSafeKey::new(key.expect("rustls gives keys of their algorithm's length"))
    }

    /// Opens the record whose ciphertext follows the first `gap` bytes of `space`; the last of
    /// these are its header. Moves the plaintext to the beginning of `space` and returns it.
    pub(super) fn open<'a>(
        &mut self,
        key: &LessSafeKey,
        space: &'a mut [u8],
        gap: usize,
    ) -> Result<&'a [u8], RecordError> {
        let header: [u8; HEADER] = space[gap - HEADER..gap].try_into().expect("as long");
        let opened = key.open_within(self.nonce(), Aad::from(header), space, gap..);
        self.sequence += 1;
        opened
            .map(|opened| &*opened)
            .map_err(|_| RecordError::Forged)
    }

    /// Seals one record (RFC 9846, 5.2) at the beginning of `out`, which must have room for it.
    /// Returns the record's length.
    pub(super) fn seal(
        &mut self,
        key: &LessSafeKey,
        kind: ContentType,
        content: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let length = content.len() + OVERHEAD;
        let (header, sealed) = out[..length].split_at_mut(HEADER);
        let (inner, end) = sealed.split_at_mut(content.len() + 1);
        debug_assert_eq!(end.len(), TAG);
        header.copy_from_slice(&cipher::make_tls13_aad(length - HEADER));
        inner[..content.len()].copy_from_slice(content);
        inner[content.len()] = kind.into();
        let tag = key.seal_in_place_separate_tag(self.nonce(), Aad::from(header), inner);
        end.copy_from_slice(tag.map_err(|_| Error::EncryptError)?.as_ref());
        self.sequence += 1;
        Ok(length)
    }

    /// Returns the nonce of the next record (5.3).
    fn nonce(&self) -> Nonce {
        Nonce::assume_unique_for_key(cipher::Nonce::new(&self.iv, self.sequence).0)
    }
}
