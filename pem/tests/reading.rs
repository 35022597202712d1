//! What is written in whatever form is read, and what is not read is an error at its line.

use proptest::collection::vec;
use std::fmt::Write;

use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use strict_pem::{PemFault as Fault, read};

/// Two sections of one byte and two bytes.
const TWO: &str =
    "-----BEGIN ONE-----\nMA==\n-----END ONE-----\n-----BEGIN TWO-----\nMAA=\n-----END TWO-----\n";

/// The labels and lines of what is read.
fn labels(text: &str) -> Vec<(String, usize)> {
    let sections = read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    sections
        .into_iter()
        .map(|section| (section.label, section.line))
        .collect()
}

#[test]
fn every_way_to_write_two_sections_gives_two_sections() {
    let both = |one, two| vec![("ONE".to_owned(), one), ("TWO".to_owned(), two)];
    for (text, expected) in [
        (TWO.to_owned(), both(1, 4)),
        (TWO.replace('\n', "\r\n"), both(1, 4)),
        (TWO.replace('\n', "\r"), both(1, 4)),
        (format!("\u{feff}{TWO}"), both(1, 4)),
        (TWO.trim_end().to_owned(), both(1, 4)),
        (
            TWO.replace("-----\n-----BEGIN T", "----------BEGIN T"),
            both(1, 3),
        ),
        (TWO.replace('\n', ""), both(1, 1)),
        (TWO.replace('\n', " "), both(1, 1)),
        (
            TWO.replace("-----B", "  -----B").replace("MA", "\tMA"),
            both(1, 4),
        ),
        (format!("# ours\n\n   # theirs\n{TWO}\n\n# end"), both(4, 7)),
        (
            format!("# -----BEGIN ZERO-----\n# MA==\n# -----END ZERO-----\n{TWO}"),
            both(4, 7),
        ),
        (TWO.replace("MAA=", "M\nAA\n="), both(1, 4)),
    ] {
        assert_eq!(labels(&text), expected, "{text:?}");
    }
    assert_eq!(read(b"").unwrap(), []);
    assert_eq!(read(b"\n \n# nothing\n").unwrap(), []);
}

#[test]
fn openssls_text_may_stand_between_sections() {
    let text = "Certificate:
    Data:
        Version: 3 (0x2)
        Serial Number:
            5f:3a:00:b1:5f:3a:00:b1:5f:3a:00:b1:5f:3a:00:b1:5f:3a:00:b1
        Signature Algorithm: ecdsa-with-SHA256
            X509v3 Key Usage: critical
                Certificate Sign, CRL Sign
            X509v3 Subject Key Identifier:
                EB:D5:7C:0A:9D:10:7A:E9:3C:62:E8:9D:F0:DA:14:AE:C7:38:F9:D0
    CRL Reason Code:
        Superseded
No Revoked Certificates.
Private-Key: (256 bit)
NIST CURVE: P-256
Bag Attributes
    localKeyID: 01 02
Key Attributes: <No Attributes>
subject=C = US, O = Example, CN = Root CA
issuer=CN = Root CA
notAfter=Jan  1 00:00:00 2030 GMT
SHA256 Fingerprint=9C:AE:81:00
";
    assert_eq!(labels(&format!("{text}{TWO}{text}")).len(), 2);
}

/// One section, in full.
const WHOLE: &str = "-----BEGIN ONE-----\nMA==\n-----END ONE-----\n";

fn expect_fault(text: &str, line: usize, fault: Fault) {
    let error = read(text.as_bytes()).expect_err(text);
    assert_eq!((error.line, error.fault), (line, fault), "{text}");
}

#[test]
fn whatever_is_not_read_is_an_error_at_its_line() {
    let whole = WHOLE;
    let content = "MIIBtjCCAVugAwIBAgITBmyf1XSXNmY/Owua2eiedgPySjAKBggqhkjOPQQDAjA5";
    let one = || "ONE".to_owned();
    for (text, line, fault) in [
        ("no PEM at all".to_owned(), 1, Fault::Stray),
        (format!("{whole}ours\n{whole}"), 4, Fault::Stray),
        (format!("{whole}{content}\n"), 4, Fault::Stray),
        (format!("{whole}  {content}\n"), 4, Fault::Stray),
        (format!("{whole}QUJD==\n"), 4, Fault::Stray),
        (
            "# x -----BEGIN ONE-----MA==-----END ONE-----".to_owned(),
            1,
            Fault::Stray,
        ),
        (
            "-----BEGIN ONE-----\nMA==\n".to_owned(),
            3,
            Fault::Unended(one()),
        ),
        ("-----BEGIN ONE-----".to_owned(), 1, Fault::Unended(one())),
        (
            format!("-----BEGIN ONE-----\nMA==\n{whole}"),
            3,
            Fault::Nested(one()),
        ),
        ("MA==\n-----END ONE-----".to_owned(), 1, Fault::Stray),
        ("\n-----END ONE-----".to_owned(), 2, Fault::Unbegun(one())),
        (whole.replace("-----B", "----B"), 1, Fault::Boundary),
        (whole.replace("E-----\nMA", "E----\nMA"), 1, Fault::Boundary),
        (whole.replace("E-----\nMA", "E\nMA"), 1, Fault::Boundary),
        (whole.replace("END ONE-----", "END ONE"), 3, Fault::Boundary),
        (whole.replace("END ONE", "ENDE ONE"), 3, Fault::Boundary),
        (whole.replace("BEGIN ONE", "BEGIN "), 1, Fault::Boundary),
        (
            whole.replace("END ONE", "END TWO"),
            3,
            Fault::Mismatch {
                begun: one(),
                ended: "TWO".to_owned(),
            },
        ),
    ] {
        expect_fault(&text, line, fault);
    }
    let error = read(b"# text\n\x30\x82\xff").unwrap_err();
    assert_eq!((error.line, error.fault), (2, Fault::NotText));
}

#[test]
fn content_that_is_not_plain_base64_is_an_error_at_its_line() {
    let whole = WHOLE;
    for (text, line, fault) in [
        (whole.replace("MA==\n", ""), 2, Fault::Empty),
        (whole.replace("MA==", "MA="), 3, Fault::Base64),
        (whole.replace("MA==", "MB=="), 3, Fault::Base64),
        (whole.replace("MA==", "M==="), 3, Fault::Base64),
        (whole.replace("MA==", "M=A="), 3, Fault::Base64),
        (whole.replace("MA==", "M-=="), 2, Fault::Base64),
        (
            whole.replace("MA==", "Comment: me\n\nMA=="),
            2,
            Fault::Header,
        ),
        (
            whole.replace("MA==", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nMA=="),
            2,
            Fault::Encrypted("ONE".to_owned()),
        ),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----"
                .to_owned(),
            1,
            Fault::Encrypted("PRIVATE KEY".to_owned()),
        ),
    ] {
        expect_fault(&text, line, fault);
    }
}

/// Base64 by the book, apart from the reader's own.
fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(*group.get(at).unwrap_or(&0))
        });
        for at in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * at) & 63] as char;
            text.push(if at <= group.len() { digit } else { '=' });
        }
    }
    text
}

/// What may stand between the parts of a section, and between sections.
fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("\n"),
        Just("\r\n"),
        Just(" "),
        Just("\n\n  "),
        Just("\n\t"),
        Just("")
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(
        sections in vec((vec(any::<u8>(), 1..200), gap(), gap(), gap()), 0..5)
    ) {
        let mut text = String::new();
        for (bytes, a, b, c) in &sections {
            let content = encode(bytes);
            let (left, right) = content.split_at(content.len() / 2);
            write!(text, "-----BEGIN X-----{a}{left}{b}{right}{a}-----END X-----{c}").unwrap();
        }
        let read: Vec<_> = read(text.as_bytes()).unwrap().into_iter().map(|one| one.der).collect();
        let written: Vec<_> = sections.into_iter().map(|one| one.0).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_text_with_a_piece_cut_out_is_read_whole_or_not_at_all(
        from in 0..TWO.len(), length in 1..TWO.len()
    ) {
        let to = (from + length).min(TWO.len());
        let text = format!("{}{}", &TWO[..from], &TWO[to..]);
        if let Ok(sections) = read(text.as_bytes()) {
            // A section is missing only if both its boundaries are.
            prop_assert_eq!(sections.len(), text.matches("BEGIN").count());
            prop_assert_eq!(sections.len(), text.matches("END").count());
        }
    }
}
