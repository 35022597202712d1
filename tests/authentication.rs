//! One certificate names one client in one way, or nobody. Every certificate here was signed by the
//! right authority, and is shown to a real gateway.

use std::sync::Arc;

use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, SigningKey};
use rustls::AlertDescription::{self, AccessDenied, UnsupportedCertificate};

use crate::harness::{Identity, Refusal, Upstream, World};

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const CN: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const O: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x0a];

/// One DER value: its tag, its length, its parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut value = vec![tag];
    match content.len() {
        short @ 0..=127 => value.push(u8::try_from(short).unwrap()),
        long @ 128..=255 => value.extend([0x81, u8::try_from(long).unwrap()]),
        longer => {
            value.push(0x82);
            value.extend(u16::try_from(longer).unwrap().to_be_bytes());
        }
    }
    value.extend(content);
    value
}

fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
    der(0x30, &[kind, &der(tag, &[value])])
}

/// A subject of one attribute in each of its sets.
fn subject(attributes: &[Vec<u8>]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = attributes.iter().map(|one| der(0x31, &[one])).collect();
    der(0x30, &sets.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn named(name: &str) -> Vec<u8> {
    subject(&[attribute(CN, UTF8, name.as_bytes())])
}

const CLIENT_AUTH: &[u8] = &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2];
const SERVER_AUTH: &[u8] = &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 1];
const ANY_USAGE: &[u8] = &[0x06, 0x04, 0x55, 0x1d, 0x25, 0x00];

fn extension(id: u8, value: &[u8]) -> Vec<u8> {
    der(0x30, &[&[0x06, 0x03, 0x55, 0x1d, id], &der(0x04, &[value])])
}

/// The extensions of a client: what it is for, and that it is no authority.
fn extensions(purposes: &[&[u8]], more: &[u8]) -> Vec<u8> {
    let mut all = extension(0x13, &der(0x30, &[]));
    if !purposes.is_empty() {
        all.extend(extension(0x25, &der(0x30, purposes)));
    }
    all.extend(more);
    der(0xa3, &[&der(0x30, &[&all])])
}

/// Signs a certificate with any subject and extensions, as an authority that looks at nothing.
fn issue(authority: &Authority, subject: &[u8], extensions: &[u8]) -> Identity {
    let key = KeyPair::generate().unwrap();
    let algorithm = der(
        0x30,
        &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]],
    );
    let validity = der(
        0x30,
        &[
            &der(0x17, &[b"250101000000Z"]),
            &der(0x17, &[b"491231235959Z"]),
        ],
    );
    let body = der(
        0x30,
        &[
            &der(0xa0, &[&[0x02, 0x01, 0x02]]),
            &[0x02, 0x01, 0x2a],
            &algorithm,
            &authority.subject,
            &validity,
            subject,
            &key.subject_public_key_info(),
            extensions,
        ],
    );
    let signature = authority.issuer.key().sign(&body).unwrap();
    let certificate = der(0x30, &[&body, &algorithm, &der(0x03, &[&[0], &signature])]);
    Identity::of_der(&authority.certificate, certificate, &key)
}

/// An authority whose key is at hand.
struct Authority {
    certificate: rcgen::Certificate,
    subject: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "hand-made");
        let certificate = params.self_signed(&key).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        let subject = parsed.subject().as_raw().to_vec();
        Self {
            certificate,
            subject,
            issuer: Issuer::new(params, key),
        }
    }
}

/// What is shown, and the reason of the refusal; none is served.
type Row = (&'static str, Vec<u8>, Option<&'static str>);

#[expect(clippy::too_many_lines, reason = "a table has as many lines as rows")]
fn names() -> Vec<Row> {
    let bad = Some("bad_name");
    let stranger = Some("unknown_client");
    let text = |what, name: &str, reason| (what, named(name), reason);
    let typed =
        |what, tag, value: &[u8], reason| (what, subject(&[attribute(CN, tag, value)]), reason);
    let alice = || attribute(CN, UTF8, b"alice");
    let in_one = |attributes: &[&[u8]]| der(0x30, &[&der(0x31, attributes)]);
    let long = "a".repeat(64);
    vec![
        text("the name", "alice", None),
        typed("a PrintableString", PRINTABLE, b"alice", None),
        (
            "a name beside an organization",
            subject(&[attribute(O, UTF8, b"Org"), alice()]),
            None,
        ),
        text("64 characters", &long, None),
        text("64 characters of two bytes", &"\u{e9}".repeat(64), None),
        text("65 characters", &"a".repeat(65), bad),
        text("200 characters", &"a".repeat(200), bad),
        text("an empty name", "", bad),
        ("no name", subject(&[attribute(O, UTF8, b"alice")]), bad),
        ("an empty subject", subject(&[]), bad),
        (
            "two names in two sets",
            subject(&[alice(), attribute(CN, UTF8, b"bob")]),
            bad,
        ),
        (
            "two names, the other first",
            subject(&[attribute(CN, UTF8, b"bob"), alice()]),
            bad,
        ),
        ("the same name twice", subject(&[alice(), alice()]), bad),
        (
            "two names in one set",
            in_one(&[&alice(), &attribute(CN, UTF8, b"bob")]),
            bad,
        ),
        (
            "the name and an empty one",
            subject(&[alice(), attribute(CN, UTF8, b"")]),
            bad,
        ),
        text("NUL at the end", "alice\0", bad),
        text("NUL in the middle", "alice\0.evil", bad),
        text("NUL at the start", "\0alice", bad),
        text("a line feed", "alice\n", bad),
        text("a forged line", "alice\n{\"reason\":\"finished\"}", bad),
        text("a carriage return", "alice\r", bad),
        text("a tab", "al\tice", bad),
        text("an escape", "\u{1b}[31malice", bad),
        text("a delete", "alice\u{7f}", bad),
        text("a C1 control", "alice\u{85}", bad),
        text("a right-to-left override", "\u{202e}ecila", bad),
        text("a left-to-right embedding", "\u{202a}alice", bad),
        text("a pop of directions", "alice\u{202c}", bad),
        text("an isolate", "\u{2066}alice\u{2069}", bad),
        text("a left-to-right mark", "alice\u{200e}", bad),
        text("a right-to-left mark", "alice\u{200f}", bad),
        text("an Arabic letter mark", "alice\u{61c}", bad),
        text("a zero-width space", "al\u{200b}ice", bad),
        text("a zero-width joiner", "al\u{200d}ice", bad),
        text("a zero-width non-joiner", "al\u{200c}ice", bad),
        text("a word joiner", "al\u{2060}ice", bad),
        text("a byte order mark", "\u{feff}alice", bad),
        text("a soft hyphen", "al\u{ad}ice", bad),
        text("a variation selector", "alice\u{fe0f}", bad),
        text("a tag character", "alice\u{e0061}", bad),
        text("a line separator", "alice\u{2028}", bad),
        text("a Hangul filler", "alice\u{3164}", bad),
        text("a blank before", " alice", bad),
        text("a blank behind", "alice ", bad),
        text("a no-break space behind", "alice\u{a0}", bad),
        typed("a TeletexString", 0x14, b"alice", bad),
        typed("an IA5String", 0x16, b"alice", bad),
        typed("a BMPString", 0x1e, b"\0a\0l\0i\0c\0e", bad),
        typed("a UniversalString", 0x1c, b"\0\0\0a\0\0\0l", bad),
        typed("a NumericString", 0x12, b"42", bad),
        typed("an OCTET STRING", 0x04, b"alice", bad),
        typed("an INTEGER", 0x02, b"\x2a", bad),
        typed(
            "a PrintableString with others' characters",
            PRINTABLE,
            b"alice@x",
            bad,
        ),
        typed("UTF-8 that is none", UTF8, b"alice\xff", bad),
        typed("UTF-8 longer than need be", UTF8, b"\xc1\xa1lice", bad),
        (
            "bytes behind the name",
            subject(&[der(
                0x30,
                &[CN, &der(UTF8, &[b"alice"]), &der(UTF8, &[b"bob"])],
            )]),
            bad,
        ),
        (
            "a name of another class",
            subject(&[attribute(CN, 0x80 | UTF8, b"alice")]),
            bad,
        ),
        (
            "a kind of attribute of another class",
            subject(&[attribute(&[0x86, 0x03, 0x55, 0x04, 0x03], UTF8, b"alice")]),
            bad,
        ),
        typed("a surrogate", UTF8, b"\xed\xa0\x80alice", bad),
        text("another case", "Alice", stranger),
        text("all capitals", "ALICE", stranger),
        text("a Cyrillic letter", "\u{430}lice", stranger),
        text("full-width letters", "\u{ff41}lice", stranger),
        text("a dot behind", "alice.", stranger),
        text("the name and more", "alice2", stranger),
        text("part of the name", "alic", stranger),
        text("an address", "alice@example.test", stranger),
        text("a wildcard", "*", stranger),
        text("the group's name", "db", stranger),
        text("a decomposed letter", "e\u{301}", stranger),
    ]
}

async fn world(authority: &Authority) -> (World, Upstream) {
    let upstream = Upstream::start("db").await;
    let mut world = World::with_db(&[&upstream]);
    world.client(&"a".repeat(64), "groups: [db]");
    world.client(&format!("\"{}\"", "\u{e9}".repeat(64)), "groups: [db]");
    world.client("\"\u{e9}\"", "groups: [db]");
    world.write("ca.crt", &authority.certificate.pem());
    (world, upstream)
}

#[tokio::test]
async fn a_name_is_one_clean_text_or_it_is_nobodys() {
    let authority = Authority::new();
    let (world, upstream) = world(&authority).await;
    let gateway = world.start().await;
    let rows = names();
    assert!(rows.len() >= 50, "{} rows", rows.len());

    // They stay open, so that none of their ports comes again.
    let mut served = Vec::new();
    for (what, subject, refused) in rows {
        let client = issue(&authority, &subject, &extensions(&[CLIENT_AUTH], &[]));
        let earlier = gateway.records().len();
        let (result, source) = client.try_visit(gateway.address, "db").await;
        match refused {
            None => {
                let open =
                    result.unwrap_or_else(|refusal| panic!("{what} is refused: {refusal:?}"));
                served.push(open);
            }
            Some(reason) => {
                let refusal = result.err().unwrap_or_else(|| panic!("{what} is let in"));
                assert_eq!(refusal, Refusal::Alert(AccessDenied), "{what}");
                let record = gateway.record_from(&source, earlier).await;
                assert_eq!(record["reason"], reason, "{what}");
            }
        }
        assert_eq!(
            upstream.accepted(),
            served.len(),
            "{what}: the upstream hears of nobody else"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_a_clients_is_refused() {
    let authority = Authority::new();
    let (world, upstream) = world(&authority).await;
    let gateway = world.start().await;
    let usage = |bits: u8| extension(0x0f, &[0x03, 0x02, 0x00, bits]);
    let is_authority = extension(0x13, &der(0x30, &[&[0x01, 0x01, 0xff]]));
    let for_clients = extension(0x25, &der(0x30, &[CLIENT_AUTH]));
    let rows: [(&str, Vec<u8>, Option<AlertDescription>); 7] = [
        ("no purpose", extensions(&[], &[]), Some(AccessDenied)),
        (
            "a server's",
            extensions(&[SERVER_AUTH], &[]),
            Some(UnsupportedCertificate),
        ),
        (
            "any purpose",
            extensions(&[ANY_USAGE], &[]),
            Some(UnsupportedCertificate),
        ),
        (
            "a client's and a server's",
            extensions(&[CLIENT_AUTH, SERVER_AUTH], &[]),
            None,
        ),
        (
            "one that may sign",
            extensions(&[CLIENT_AUTH], &usage(0x80)),
            None,
        ),
        (
            "one that may only agree on keys",
            extensions(&[CLIENT_AUTH], &usage(0x08)),
            Some(AccessDenied),
        ),
        (
            "an authority's",
            der(0xa3, &[&der(0x30, &[&is_authority, &for_clients])]),
            Some(UnsupportedCertificate),
        ),
    ];

    // They stay open, so that none of their ports comes again.
    let mut served = Vec::new();
    for (what, extensions, alert) in rows {
        let client = issue(&authority, &named("alice"), &extensions);
        let earlier = gateway.records().len();
        let (result, source) = client.try_visit(gateway.address, "db").await;
        match (result, alert) {
            (Ok(open), None) => served.push(open),
            (Err(refusal), Some(alert)) => {
                assert_eq!(refusal, Refusal::Alert(alert), "{what}");
                let record = gateway.record_from(&source, earlier).await;
                assert_eq!(record["reason"], "certificate_purpose", "{what}");
            }
            (result, _) => panic!("{what}: {result:?}"),
        }
    }
    assert_eq!(upstream.accepted(), served.len());
}

#[tokio::test]
async fn a_chain_of_junk_is_refused_before_it_is_looked_at() {
    let authority = Authority::new();
    let (world, _upstream) = world(&authority).await;
    let gateway = world.start().await;
    let client = issue(
        &authority,
        &named("alice"),
        &extensions(&[CLIENT_AUTH], &[]),
    );
    let junk = Arc::new(authority.certificate.der().clone().into_owned());

    client
        .followed_by(&junk, 3)
        .visit(gateway.address, "db")
        .await
        .unwrap();
    for length in [4, 100] {
        client
            .followed_by(&junk, length)
            .visit(gateway.address, "db")
            .await
            .unwrap_err();
        gateway.record_with("chain_too_large").await;
    }
}

#[tokio::test]
async fn a_chain_that_is_too_large_to_be_taken_in_is_answered_by_an_alert() {
    let authority = Authority::new();
    let (world, _upstream) = world(&authority).await;
    let gateway = world.start().await;
    let client = issue(
        &authority,
        &named("alice"),
        &extensions(&[CLIENT_AUTH], &[]),
    );
    let junk = Arc::new(authority.certificate.der().clone().into_owned());
    let kib_64 = 64 * 1024 / junk.len();

    for length in [kib_64 - 1, kib_64, kib_64 + 1, 2 * kib_64, 3 * kib_64] {
        let told = client
            .followed_by(&junk, length)
            .visit(gateway.address, "db")
            .await
            .unwrap_err();
        assert!(matches!(told, Refusal::Alert(_)), "{length}: {told:?}");
    }
}

#[test]
fn no_certificate_is_issued_for_a_name_that_the_gateway_refuses() {
    let alike = |name: &str| {
        let issued = certgen::check_common_name(name).is_ok();
        assert_eq!(policy::ClientName::new(name).is_ok(), issued, "{name:?}");
    };
    for character in '\0'..=char::MAX {
        alike(&format!("a{character}b"));
        alike(&format!("{character}b"));
    }
    for name in ["", "a ", &"a".repeat(64), &"a".repeat(65)] {
        alike(name);
    }
}
