//! Every common name of two bytes, and every kind of string that may hold it.

use super::*;

/// How a subject's common name begins in DER, and where its value's tag stands behind that.
const BEGIN: [u8; 5] = [6, 3, 0x55, 4, 3];
const NAME: &str = "ab";

/// A client's certificate whose common name is [`NAME`], and where that name's tag stands.
fn certificate() -> (Vec<u8>, usize) {
    let authority = certgen::Authority::new(&certgen::AuthoritySpec::default()).unwrap();
    let der = authority.client(NAME).unwrap().certificate_der().to_vec();
    let attribute = [&BEGIN[..], &[12, 2], NAME.as_bytes()].concat();
    let places = der.windows(attribute.len());
    let places: Vec<_> = places
        .enumerate()
        .filter(|(_, bytes)| *bytes == attribute)
        .collect();
    let [(place, _)] = places[..] else {
        panic!("the name stands there once");
    };
    let tag = place + BEGIN.len();
    (der, tag)
}

/// The name that two bytes are in a string of this type, by X.680, X.690 and the rules of names.
fn expected(tag: u8, bytes: [u8; 2]) -> Option<String> {
    let printable = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?";
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    let is_written = match tag {
        12 => true,
        19 => text.chars().all(|character| printable.contains(character)),
        _ => false,
    };
    // In two bytes there is one other invisible character: the soft hyphen.
    let is_visible = |character: char| !character.is_control() && character != '\u{ad}';
    (is_written && text.chars().all(is_visible) && text.trim() == text).then_some(text)
}

#[test]
fn every_name_of_two_bytes_in_every_string_type_is_taken_as_it_is_written_or_not_at_all() {
    let (mut der, tag) = certificate();
    let mut taken = 0;
    let mut look = |kind: u8, bytes: [u8; 2]| {
        der[tag] = kind;
        der[tag + 2..tag + 4].copy_from_slice(&bytes);
        let identity = Identity::of(&CertificateDer::from(&der[..]));
        let name = identity.ok().map(|one| one.name().to_string());
        assert_eq!(name, expected(kind, bytes), "{kind} {bytes:?}");
        taken += usize::from(name.is_some());
    };
    for kind in 0..=255 {
        look(kind, *b"ab");
    }
    // Each class of bytes with each: all of ASCII, and what begins and goes on in UTF-8.
    let bytes = (0..=0x80).chain([
        0x9f, 0xa0, 0xa1, 0xad, 0xbf, 0xc1, 0xc2, 0xc3, 0xdf, 0xe0, 0xff,
    ]);
    for (one, other) in bytes
        .clone()
        .flat_map(|one| bytes.clone().map(move |other| (one, other)))
    {
        look(12, [one, other]);
        look(19, [one, other]);
    }
    assert!(taken > 10_000, "{taken}");
}
