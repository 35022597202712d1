//! Limits of a `ClientHello` that are checked before it is parsed.
//!
//! rustls parses every list of a hello into memory of its own, twice, and compares the offers one
//! by one. A hello of 64 KiB with 20,000 protocols costs as much as twenty handshakes; clients need
//! 3 KiB.
//!
//! ```
//! use tls::hello_limits::{HelloExcess, HelloReader};
//!
//! // A record with the beginning of a message that is longer than is allowed.
//! let hello = [22, 3, 1, 0, 4, 1, 0, 0x40, 1];
//! let mut reader = HelloReader::default();
//! assert_eq!(reader.look(&hello[..8]), Ok(false), "more has to come");
//! assert_eq!(reader.look(&hello), Err(HelloExcess::Hello));
//! ```

use thiserror::Error;

use crate::record_layer::HEADER;

/// Maximum length of a `ClientHello` in bytes.
pub const LONGEST: usize = 16 * 1024;
/// Maximum number of application protocols that a client may offer.
pub const MOST_PROTOCOLS: usize = 64;

/// Maximum size of the received part of a handshake that is not processed yet, in KiB.
pub const MOST_PENDING_KIB: usize = 64;

/// Handshake type of a `ClientHello` (RFC 9846, 4).
const CLIENT_HELLO: u8 = 1;
/// Type of the extension that offers application protocols (RFC 7301, 3.1).
const PROTOCOLS: [u8; 2] = [0, 16];

/// Limit that a client's handshake exceeds; [`HelloReader`] checks the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HelloExcess {
    /// A `ClientHello` of more than [`LONGEST`] bytes.
    #[error("the client's ClientHello has more than {LONGEST} bytes")]
    Hello,
    /// More than [`MOST_PROTOCOLS`] application protocols.
    #[error("the client offers more than {MOST_PROTOCOLS} application protocols (ALPN)")]
    Protocols,
    /// More than [`MOST_PENDING_KIB`] without a whole message.
    #[error("the client sent {MOST_PENDING_KIB} KiB without a complete handshake message")]
    Pending,
}

/// Checks the limits of a `ClientHello` that arrives in records.
#[derive(Debug, Default)]
pub struct HelloReader {
    message: Vec<u8>,
    /// Number of bytes of the connection that were checked.
    seen: usize,
}

impl HelloReader {
    /// Checks the bytes that are new since the last call; `bytes` are all from the connection's
    /// beginning.
    ///
    /// Returns true if the parser can have them: the hello is complete, or they are something else,
    /// which the parser has to reject.
    ///
    /// # Errors
    ///
    /// The hello exceeds a limit.
    pub fn look(&mut self, bytes: &[u8]) -> Result<bool, HelloExcess> {
        loop {
            let (kind, length, rest) = match bytes.get(self.seen..) {
                Some(&[kind, 3, _, high, low, ref rest @ ..]) => {
                    (kind, usize::from(u16::from_be_bytes([high, low])), rest)
                }
                None | Some([] | [22] | [22, 3] | [22, 3, _] | [22, 3, _, _]) => return Ok(false),
                Some(_) => return Ok(true),
            };
            if kind != 22 || length == 0 || length > LONGEST {
                return Ok(true);
            }
            let Some(fragment) = rest.get(..length) else {
                let is_hello = !self.message.is_empty() || matches!(rest, [] | [CLIENT_HELLO, ..]);
                return Ok(!is_hello);
            };
            self.seen += HEADER + length;
            if self.fragment(fragment)? {
                return Ok(true);
            }
        }
    }

    /// Adds the content of one handshake record. Returns true if the hello is complete, or the
    /// message is not a hello.
    ///
    /// # Errors
    ///
    /// The hello exceeds a limit.
    pub fn fragment(&mut self, fragment: &[u8]) -> Result<bool, HelloExcess> {
        self.message.extend_from_slice(fragment);
        let [CLIENT_HELLO, a, b, c, body @ ..] = &*self.message else {
            return Ok(self
                .message
                .first()
                .is_some_and(|kind| *kind != CLIENT_HELLO));
        };
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(HelloExcess::Hello);
        }
        let Some(body) = body.get(..length) else {
            return Ok(false);
        };
        if protocols(body).is_some_and(|offered| offered > MOST_PROTOCOLS) {
            return Err(HelloExcess::Protocols);
        }
        Ok(true)
    }
}

/// Counts the application protocols that a hello offers (RFC 9846, 4.2.2). `None` if it is
/// malformed.
fn protocols(hello: &[u8]) -> Option<usize> {
    let (_version_and_random, rest) = hello.split_at_checked(34)?;
    let (_session, rest) = short(rest)?;
    let (_suites, rest) = long(rest)?;
    let (_compressions, rest) = short(rest)?;
    let (mut extensions, _) = long(rest)?;
    let mut offered = 0;
    while let Some((&kind, rest)) = extensions.split_first_chunk::<2>() {
        let (content, rest) = long(rest)?;
        extensions = rest;
        if kind == PROTOCOLS {
            let (mut names, _) = long(content)?;
            while let Some((_, rest)) = short(names) {
                names = rest;
                offered += 1;
            }
        }
    }
    Some(offered)
}

/// Splits off a vector with a length prefix of one byte. Returns its content and the rest.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// Splits off a vector with a length prefix of two bytes. Returns its content and the rest.
fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use rustls::{ClientConfig, ClientConnection};

    use super::*;
    use crate::record_layer::test_support::{client, name};

    /// The first flight of a client that offers so many protocols.
    fn flight(offered: usize) -> Vec<u8> {
        let mut config = ClientConfig::clone(&client(TLS13_AES_128_GCM_SHA256));
        config.alpn_protocols = (0..offered).map(|n| n.to_string().into_bytes()).collect();
        let mut client = ClientConnection::new(Arc::new(config), name()).unwrap();
        let mut flight = Vec::new();
        client.write_tls(&mut flight).unwrap();
        flight
    }

    /// The same message in records of `size` bytes each.
    fn cut(flight: &[u8], size: usize) -> Vec<u8> {
        let records = flight[5..].chunks(size).map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        });
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_hello_is_the_parsers_once_it_is_whole() {
        let flight = flight(2);
        for size in [1, 7, 100, 16_000] {
            let bytes = cut(&flight, size);
            let mut reader = HelloReader::default();
            for end in 0..bytes.len() {
                assert_eq!(reader.look(&bytes[..end]), Ok(false), "{end} of {size}");
            }
            assert_eq!(reader.look(&bytes), Ok(true));
        }
    }

    #[test]
    fn a_client_may_offer_so_many_protocols_and_no_more() {
        for (offered, expected) in [
            (0, Ok(true)),
            (MOST_PROTOCOLS, Ok(true)),
            (MOST_PROTOCOLS + 1, Err(HelloExcess::Protocols)),
            (2000, Err(HelloExcess::Protocols)),
        ] {
            let flight = flight(offered);
            assert_eq!(HelloReader::default().look(&flight), expected);
            let cut = cut(&flight, 50);
            assert_eq!(HelloReader::default().look(&cut), expected);
        }
    }

    #[test]
    fn a_hello_that_is_too_long_is_known_by_its_first_bytes() {
        let hello = |length: u32| {
            let [_, a, b, c] = length.to_be_bytes();
            HelloReader::default().look(&[22, 3, 1, 0, 4, 1, a, b, c])
        };
        assert_eq!(hello(16 * 1024), Ok(false));
        assert_eq!(hello(16 * 1024 + 1), Err(HelloExcess::Hello));
        assert_eq!(hello(0xff_ffff), Err(HelloExcess::Hello));
    }

    #[test]
    fn what_is_no_hello_is_the_parsers_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            &[22, 2, 0, 0, 1],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0x50, 0],
            &[22, 3, 1, 0, 1, 2],
            &[22, 3, 1, 0, 9, 2],
            &[21, 3, 3, 0, 2, 2, 40],
        ] {
            assert_eq!(HelloReader::default().look(bytes), Ok(true), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn it_takes_any_bytes_in_any_pieces(bytes: Vec<u8>, cuts in proptest::collection::vec(0..64_usize, 0..8)) {
            let mut whole = HelloReader::default();
            let at_once = whole.look(&bytes);
            let mut pieces = HelloReader::default();
            let (mut end, mut seen) = (0, Ok(false));
            for cut in cuts.into_iter().chain([bytes.len()]) {
                end = (end + cut).min(bytes.len());
                if seen == Ok(false) {
                    seen = pieces.look(&bytes[..end]);
                }
            }
            prop_assert_eq!(seen, at_once);
        }

        #[test]
        fn a_hello_that_was_changed_is_bounded_all_the_same(at: prop::sample::Index, to: u8) {
            let mut flight = flight(3);
            let at = at.index(flight.len());
            flight[at] = to;
            let looked = HelloReader::default().look(&flight);
            prop_assert_ne!(looked, Err(HelloExcess::Pending));
        }
    }
}
