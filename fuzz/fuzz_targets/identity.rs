//! Whatever a certificate says, it names one client in visible characters or nobody.
#![no_main]

use gateway::client_identity::Identity;
use libfuzzer_sys::fuzz_target;
use policy::ClientName;
use rustls_pki_types::CertificateDer;

/// `UTF8String` and `PrintableString`.
const STRING_TAGS: [u8; 2] = [0x0c, 0x13];
const SEQUENCE: u8 = 0x30;
/// 2.5.4.3, with tag and length.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

fuzz_target!(|der: &[u8]| {
    let Ok(identity) = Identity::of(&CertificateDer::from(der)) else {
        return;
    };
    let name = identity.name().as_str();
    assert!(is_plain(name), "{name:?}");
    assert!(is_written(name, der), "{name:?} is not in the certificate");
    assert_eq!(ClientName::new(name).as_ref(), Ok(identity.name()));
    assert_eq!(identity.fingerprint().to_string().len(), 64);
});

/// The rules once more, from the other end: what must not be in a name, by its place in Unicode.
fn is_plain(name: &str) -> bool {
    let hidden = |c: char| {
        matches!(u32::from(c),
            // C0, DEL and C1.
            0..=0x1f | 0x7f..=0x9f
            // Bidi marks, embeddings, overrides and isolates.
            | 0x61c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069
            // Soft hyphen, zero width, line ends, byte order mark.
            | 0xad | 0x200b..=0x200d | 0x2028 | 0x2029 | 0x2060 | 0xfeff
            // Variation selectors and tags.
            | 0xfe00..=0xfe0f | 0xe0001..=0xe007f | 0xe0100..=0xe01ef)
    };
    (1..=64).contains(&name.chars().count()) && name.trim() == name && !name.chars().any(hidden)
}

/// Whether a common name of these very bytes stands in the certificate, in the one way that DER
/// has.
fn is_written(name: &str, der: &[u8]) -> bool {
    STRING_TAGS.into_iter().any(|tag| {
        let attribute = [&COMMON_NAME[..], &value(tag, name.as_bytes())].concat();
        let attribute = value(SEQUENCE, &attribute);
        der.windows(attribute.len()).any(|bytes| bytes == attribute)
    })
}

/// A DER value of no more than 65,535 bytes (X.690, 8.1.3 and 10.1).
fn value(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a name is short");
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        0x100.. => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), bytes].concat()
}
