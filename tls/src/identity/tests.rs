use super::*;

/// A certificate that fuzzing begins with.
macro_rules! seed {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/seeds/identity/", $name, ".der"))
    };
}

/// Who is named, with these bytes in place of the others.
fn named(der: &[u8], bytes: &[u8], instead: &[u8]) -> Result<String, IdentityError> {
    let places = der.windows(bytes.len()).enumerate();
    let places = places.filter(|(_, here)| *here == bytes);
    let mut changed = der.to_vec();
    for (at, _) in places {
        changed[at..][..bytes.len()].copy_from_slice(instead);
    }
    let der = changed;
    CertificateIdentity::of(&der.into()).map(|identity| identity.common_name().to_owned())
}

#[test]
fn a_certificate_names_one_client_in_one_way_or_nobody() {
    use IdentityError::{Authority, Encoding, NotForClients, StringType, Unreadable};
    let of = |der: &[u8]| named(der, b"billing", b"billing");
    assert_eq!(of(seed!("client")).as_deref(), Ok("billing"));
    assert_eq!(of(seed!("printable")).as_deref(), Ok("billing"));
    assert_eq!(of(&[seed!("client"), &[0][..]].concat()), Err(Unreadable));
    assert_eq!(of(seed!("authority")), Err(Authority));
    assert_eq!(of(seed!("server")), Err(NotForClients));
    assert_eq!(of(seed!("bmp")), Err(StringType));
    assert_eq!(of(seed!("teletex")), Err(StringType));
    assert_eq!(of(seed!("value-of-another-class")), Err(Encoding));
    assert_eq!(of(seed!("type-is-no-oid")), Err(Encoding));
    let printable = |name| named(seed!("printable"), b"billing", name);
    assert_eq!(printable(b"'()+,-.").as_deref(), Ok("'()+,-."));
    assert_eq!(printable(b"B/9:=?a").as_deref(), Ok("B/9:=?a"));
    assert_eq!(printable(b"bill*ng"), Err(Encoding));
    let other = named(seed!("client"), b"billing", b"bill*ng");
    assert_eq!(other.as_deref(), Ok("bill*ng"));
    assert_eq!(
        named(seed!("client"), b"billing", b"bill\xffng"),
        Err(Encoding)
    );
    // Its key is for something else than signatures.
    let usage = [[0x03, 0x02, 0x07, 0x80], [0x03, 0x02, 0x05, 0x20]];
    assert_eq!(
        named(seed!("client"), &usage[0], &usage[1]),
        Err(NotForClients)
    );
}

#[test]
fn a_subject_without_a_name_or_with_two_names_nobody() {
    let of = |names: &[&str]| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        // rcgen holds one of each kind: the second is made of one that stands beside it.
        let kinds = [rcgen::DnType::CommonName, rcgen::DnType::CountryName];
        for (kind, name) in kinds.into_iter().zip(names) {
            params.distinguished_name.push(kind, *name);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        named(&der, &[0x55, 4, 6], &[0x55, 4, 3])
    };
    assert_eq!(of(&["a"]).as_deref(), Ok("a"));
    assert_eq!(of(&["a", "b"]), Err(IdentityError::SeveralNames));
    assert_eq!(of(&[]), Err(IdentityError::NoName));
}

#[test]
fn a_fingerprint_is_the_sha_256_in_hexadecimal() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let fingerprint = Fingerprint::of(b"");
    assert_eq!(fingerprint.to_string(), empty);
    assert_eq!(format!("{fingerprint:?}"), empty);
    assert_eq!(fingerprint.first_byte(), 0xe3);
    assert_eq!(Fingerprint::from_bytes(fingerprint.to_bytes()), fingerprint);
}
