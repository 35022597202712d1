//! The cases of x509-limbo (`github.com/C2SP/x509-limbo`) as certificates of clients.
//!
//! The cases are made by its Python program, from sources in which `SERVER_AUTH` is replaced by
//! `CLIENT_AUTH`, and the other way round in `rfc5280/eku.py`. `docs/security.md` says how, and
//! what comes of it.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use super::*;
use crate::identity::CertificateIdentity;

/// Cases that should be refused and are not, with what is wrong with them.
const ACCEPTED: [(&str, &str); 16] = [
    ("rfc5280::aki::leaf-missing-aki", "no key identifier"),
    (
        "rfc5280::aki::intermediate-missing-aki",
        "no key identifier",
    ),
    (
        "rfc5280::aki::cross-signed-root-missing-aki",
        "no key identifier",
    ),
    ("rfc5280::ski::root-missing-ski", "no key identifier"),
    (
        "rfc5280::ski::intermediate-missing-ski",
        "no key identifier",
    ),
    (
        "webpki::aki::root-with-aki-missing-keyidentifier",
        "a root that names its issuer in another way",
    ),
    (
        "webpki::aki::root-with-aki-authoritycertissuer",
        "a root that names its issuer in another way",
    ),
    (
        "webpki::aki::root-with-aki-authoritycertserialnumber",
        "a root that names its issuer in another way",
    ),
    (
        "webpki::aki::root-with-aki-all-fields",
        "a root that names its issuer in another way",
    ),
    (
        "rfc5280::nc::permitted-dns-match-noncritical",
        "constraints that are not critical, and are checked",
    ),
    (
        "rfc5280::nc::invalid-dnsname-leading-period",
        "a constraint as OpenSSL reads it",
    ),
    (
        "rfc5280::root-non-critical-basic-constraints",
        "a root's basicConstraints that are not critical",
    ),
    ("webpki::eku::ee-critical-eku", "a purpose that is critical"),
    (
        "webpki::eku::root-has-eku",
        "a root with a purpose, which is looked at",
    ),
    (
        "webpki::san::san-critical-with-nonempty-subject",
        "alternative names that are critical",
    ),
    (
        "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
        "an RSA key of 2052 bits",
    ),
];

/// How the names of cases begin that say nothing about a client: they are about a server's name,
/// about a setting that the gateway has not, or about keys that no signature of the handshake fits.
const NOT_OF_CLIENTS: [&str; 7] = [
    "rfc5280::san::",
    "webpki::cn::",
    "webpki::san::",
    "pathlen::max-chain-depth-",
    "webpki::forbidden-p192-leaf",
    "webpki::forbidden-dsa-leaf",
    "webpki::forbidden-weak-rsa-in-leaf",
];

/// Cases that should be accepted and are refused. Of a kind with many members the beginning is
/// enough.
const REFUSED: [&str; 9] = [
    // A leaf without a purpose.
    "rfc5280::eku::ee-without-eku",
    // More intermediates than a client may show.
    "cve::cve-2024-0567",
    // An authority's certificate as a leaf.
    "pathlen::validation-ignores-pathlen-in-leaf",
    "rfc5280::ca-as-leaf",
    // An issuer of the same name with another key.
    "pathlen::self-issued-certs-pathlen",
    "rfc5280::nc::permitted-self-issued",
    // Constraints that are not judged.
    "rfc5280::nc::permitted-dn-match",
    "rfc5280::nc::nc-permits-email-",
    // All authorities of the file have to be understood.
    "rfc5280::unknown-critical-extension-unrelated-root",
];

/// What came of one case: the client gets in, or why not.
fn outcome(case: &Value) -> Result<(), String> {
    let texts = |key: &str| {
        let texts = case[key].as_array().into_iter().flatten();
        texts.map(|text| text.as_str().unwrap()).collect::<Vec<_>>()
    };
    let files = Files(tempfile::tempdir().unwrap());
    let authorities = texts("trusted_certs").concat();
    std::fs::write(files.0.path().join("ca.crt"), authorities).unwrap();
    let trust = files
        .with(&texts("crls"))
        .map_err(|error| error.to_string())?;
    let shown = |text: &str| {
        let sections = strict_pem::read(text.as_bytes()).map_err(|error| error.to_string())?;
        let ders = sections
            .into_iter()
            .map(|one| CertificateDer::from(one.der));
        Ok::<Vec<_>, String>(ders.collect())
    };
    let leaf = shown(case["peer_certificate"].as_str().unwrap())?.remove(0);
    let above = shown(&texts("untrusted_intermediates").concat())?;
    let now = case["validation_time"]
        .as_str()
        .map_or_else(UnixTime::now, |time| {
            let time = OffsetDateTime::parse(time, &Rfc3339).unwrap();
            let seconds = time.unix_timestamp().try_into().unwrap();
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        });
    let verified = trust.verify(&leaf, &above, now);
    verified.map_err(|untrusted| format!("{untrusted:?}"))?;
    let identity = CertificateIdentity::of(&leaf);
    identity.map(drop).map_err(|error| error.to_string())
}

#[test]
#[ignore = "needs the cases, whose path is in LIMBO"]
fn what_limbo_would_refuse_is_refused_or_listed() {
    let path = std::env::var_os("LIMBO").expect("the path of limbo.json in LIMBO");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let begins = |id: &str, names: &[&str]| names.iter().any(|name| id.starts_with(name));
    let (mut bad, mut accepted, mut others, mut unexpected) = (0, 0, 0, Vec::new());
    for case in all["testcases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let ought = case["expected_result"] == "SUCCESS";
        bad += usize::from(!ought);
        match outcome(case) {
            Ok(()) if ought => {}
            Err(_) if !ought => {}
            Ok(()) if ACCEPTED.iter().any(|(known, _)| *known == id) => accepted += 1,
            Ok(()) if begins(id, &NOT_OF_CLIENTS) => others += 1,
            Err(_) if begins(id, &REFUSED) => {}
            outcome => unexpected.push(format!("{id}: {outcome:?}")),
        }
    }
    println!("{bad} bad cases, {accepted} of them accepted, and {others} that are not of clients");
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    assert_eq!(accepted, ACCEPTED.len());
}
