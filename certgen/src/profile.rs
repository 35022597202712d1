//! Certificate profiles: the fields and extensions of an authority and of a leaf.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use time::OffsetDateTime;

use crate::certificate_facts;
use crate::error::CertgenError;
use crate::host_name::HostName;
use crate::name::check_common_name;
use crate::serial::CertificateSerial;
use crate::spec::{AuthoritySpec, LeafSpec, LeafUsage};

/// Hexadecimal digits of the key's hash in an authority's default name: enough to tell a few
/// authorities apart.
const NAME_DIGITS: usize = 12;

/// Parameters of an authority's certificate; its key usages are `keyCertSign` and `cRLSign`.
///
/// Revocation lists name their issuer, so two authorities need different names: the default name
/// contains the first [`NAME_DIGITS`] digits of the key's hash.
pub(crate) fn authority(
    spec: &AuthoritySpec,
    key: &KeyPair,
) -> Result<CertificateParams, CertgenError> {
    let common_name = spec.common_name.clone().unwrap_or_else(|| {
        let hash = spki_hash(&key.subject_public_key_info());
        format!("Portcullis Authority {}", &hash[..NAME_DIGITS])
    });
    check_common_name(&common_name).map_err(CertgenError::name(&common_name))?;
    let mut params = fresh(spec.not_before, spec.not_after)?;
    params.distinguished_name = named(&common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(spec.path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// SHA-256 of a public key (its `SubjectPublicKeyInfo`), in hexadecimal.
pub(crate) fn spki_hash(spki: &[u8]) -> String {
    certificate_facts::hex(digest(&SHA256, spki).as_ref())
}

/// Parameters of a leaf with its common name and subject alternative names.
pub(crate) fn leaf(spec: &LeafSpec) -> Result<CertificateParams, CertgenError> {
    check_common_name(&spec.common_name).map_err(CertgenError::name(&spec.common_name))?;
    let mut params = nameless_leaf(spec.usage, spec.not_before, spec.not_after)?;
    params.distinguished_name = named(&spec.common_name);
    params.subject_alt_names = spec
        .sans
        .iter()
        .cloned()
        .map(HostName::san)
        .collect::<Result<_, _>>()?;
    Ok(params)
}

/// Parameters that all leaves of a usage share: `digitalSignature`, one extended key usage, and
/// not an authority. The subject and its alternative names are empty.
pub(crate) fn nameless_leaf(
    usage: LeafUsage,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<CertificateParams, CertgenError> {
    let mut params = fresh(not_before, not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        LeafUsage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        LeafUsage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Refuses a validity that is empty or outside of the years 1950 to 9999.
pub(crate) fn check_validity(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<(), CertgenError> {
    if not_before >= not_after {
        return Err(CertgenError::Validity);
    }
    check_years(not_before, not_after)
}

/// Refuses times outside of the years 1950 to 9999, which X.509 cannot encode (RFC 5280, 4.1.2.5).
pub(crate) fn check_years(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<(), CertgenError> {
    let encodable = |time: OffsetDateTime| (1950..=9999).contains(&time.year());
    if encodable(not_before) && encodable(not_after) {
        Ok(())
    } else {
        Err(CertgenError::Validity)
    }
}

fn fresh(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<CertificateParams, CertgenError> {
    check_validity(not_before, not_after)?;
    let mut params = CertificateParams::default();
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(CertificateSerial::random()?.as_bytes().to_vec().into());
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        DnValue::Utf8String(common_name.to_owned()),
    );
    name
}
