//! Randomness, a key exchange and a signature that are constants, and a hash that is only fast: two
//! servers that get the same bytes have the same keys. The AEADs are real ones.

use rustls::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::crypto::{
    ActiveKeyExchange, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::sign::{Signer, SigningKey};
use rustls::{DigitallySignedStruct, NamedGroup, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Randomness, a key exchange and a signature that are always the same.
#[derive(Debug)]
pub(crate) struct Constant;

impl SecureRandom for Constant {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        bytes.fill(7);
        Ok(())
    }
}

impl SupportedKxGroup for Constant {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Self))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Constant {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, Error> {
        Ok(SharedSecret::from(&[7_u8; 32][..]))
    }

    fn pub_key(&self) -> &[u8] {
        &[7; 32]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl SigningKey for Constant {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Constant {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![7; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl ServerCertVerifier for Constant {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

const LENGTH: usize = 32;

/// A hash of which nothing is asked but speed, and that other bytes have other keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Toy {
    state: u64,
    /// Bytes that make no whole word yet.
    begun: u64,
    length: u64,
}

impl Toy {
    pub(crate) const EMPTY: Self = Self {
        state: 0xcbf2_9ce4_8422_2325,
        begun: 0,
        length: 0,
    };

    fn take(&mut self, mut bytes: &[u8]) {
        // Both ends hash the same stream, but not in the same pieces.
        while let ([first, rest @ ..], 1..) = (bytes, self.length % 8) {
            self.byte(*first);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.length += 8 * words.len() as u64;
        for byte in rest {
            self.byte(*byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.begun |= u64::from(byte) << (self.length % 8 * 8);
        self.length += 1;
        if self.length.is_multiple_of(8) {
            self.word(self.begun);
            self.begun = 0;
        }
    }

    fn word(&mut self, word: u64) {
        self.state = (self.state.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn fill(mut self, out: &mut [u8]) {
        self.word(self.begun);
        self.word(self.length);
        for part in out.chunks_mut(8) {
            self.word(1);
            let word = (self.state ^ self.state >> 29).to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }

    fn block(self) -> [u8; LENGTH] {
        let mut block = [0; LENGTH];
        self.fill(&mut block);
        block
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Self::EMPTY;
        for part in parts {
            hash.take(part);
        }
        hash
    }
}

impl Hash for Toy {
    fn start(&self) -> Box<dyn Context> {
        Box::new(*self)
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(&Self::of(&[data]).block())
    }

    fn output_len(&self) -> usize {
        LENGTH
    }

    fn algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }
}

impl Context for Toy {
    fn fork_finish(&self) -> Output {
        Output::new(&self.block())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(*self)
    }

    fn finish(self: Box<Self>) -> Output {
        self.fork_finish()
    }

    fn update(&mut self, data: &[u8]) {
        self.take(data);
    }
}

impl Hkdf for Toy {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract_from_secret(salt, &[])
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        Box::new(Self::of(&[salt.unwrap_or_default(), secret]))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(Self::of(&[okm.as_ref()]))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        Tag::new(&Self::of(&[key.as_ref(), message]).block())
    }
}

impl HkdfExpander for Toy {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        let mut hash = *self;
        for part in info {
            hash.take(part);
        }
        hash.fill(output);
        Ok(())
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        let mut block = [0; LENGTH];
        let filled = self.expand_slice(info, &mut block);
        debug_assert!(filled.is_ok(), "any length is possible");
        OkmBlock::new(&block)
    }

    fn hash_len(&self) -> usize {
        LENGTH
    }
}
