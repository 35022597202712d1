//! Renewal: a new certificate with the same names and usage, a new key and a new validity.

use std::path::Path;

use rcgen::{DistinguishedName, DnType, DnValue, SanType};
use time::Duration;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::authority::Authority;
use crate::certificate_facts;
use crate::crl::CrlContents;
use crate::directory::AuthorityDirectory;
use crate::error::CertgenError;
use crate::issued::IssuedCertificate;
use crate::paths::{self, PairPaths};
use crate::profile;
use crate::serial::CertificateSerial;
use crate::signature::signed_by;
use crate::spec::{BACKDATED, LeafUsage, now};
use crate::store;

impl Authority {
    /// Renews the leaf in a file: same subject, names and usage, a new key and a new validity.
    ///
    /// It is valid for `length`, or else for as long as the old one, and never longer than the
    /// authority. The file and the key beside it are replaced. The `ca.crl` of `dir`, if there is
    /// one, must not list the old one.
    ///
    /// # Errors
    ///
    /// A certificate that is not this authority's, is revoked ([`CertgenError::Revoked`]), or has
    /// contents that cannot be copied ([`CertgenError::NotRenewable`]).
    pub fn renew(
        &self,
        dir: &Path,
        path: &Path,
        length: Option<Duration>,
    ) -> Result<IssuedCertificate, CertgenError> {
        AuthorityDirectory::lock(dir)?.renew(self, path, length)
    }
}

impl AuthorityDirectory {
    /// Renews the leaf in a file, as [`Authority::renew`] does.
    ///
    /// # Errors
    ///
    /// A certificate that is not this authority's, is revoked ([`CertgenError::Revoked`]), or has
    /// contents that cannot be copied ([`CertgenError::NotRenewable`]).
    pub fn renew(
        &self,
        authority: &Authority,
        path: &Path,
        length: Option<Duration>,
    ) -> Result<IssuedCertificate, CertgenError> {
        store::check_replaceable(path)?;
        let der = certificate_facts::load(path)?;
        let (_, old) =
            X509Certificate::from_der(&der).map_err(|_| certificate_facts::unreadable(path))?;
        authority.check_renewable(self.path(), path, &old)?;

        let refuse = |what| CertgenError::NotRenewable {
            path: path.to_owned(),
            what,
        };
        let validity = old.validity();
        let length = length.unwrap_or_else(|| {
            validity.not_after.to_datetime() - validity.not_before.to_datetime() - BACKDATED
        });
        let not_before = now() - BACKDATED;
        let not_after = now().checked_add(length).ok_or(CertgenError::Validity)?;
        authority.check_alive(now())?;
        let mut params = profile::nameless_leaf(
            usage(&old).ok_or_else(|| refuse("it does not have exactly one known usage"))?,
            not_before,
            not_after.min(authority.not_after()),
        )?;
        params.distinguished_name = subject(old.subject())
            .ok_or_else(|| refuse("its subject has a part that cannot be copied"))?;
        params.subject_alt_names =
            sans(&old).ok_or_else(|| refuse("it has a name that cannot be copied"))?;

        let renewed = authority.issue_custom(params)?;
        let fresh = renewed.certificate_der();
        let (_, new) =
            X509Certificate::from_der(&fresh).map_err(|_| certificate_facts::unreadable(path))?;
        if new.subject().as_raw() != old.subject().as_raw() {
            return Err(refuse("its subject cannot be copied"));
        }
        self.replace(&renewed, &PairPaths::beside(path))?;
        Ok(renewed)
    }
}

impl Authority {
    /// Reads the serial of a leaf that this authority signed; it can revoke only those.
    ///
    /// # Errors
    ///
    /// A file without a certificate, or with one that is an authority's or signed by another
    /// authority.
    pub fn serial_in(&self, path: &Path) -> Result<CertificateSerial, CertgenError> {
        let der = certificate_facts::load(path)?;
        let (_, leaf) =
            X509Certificate::from_der(&der).map_err(|_| certificate_facts::unreadable(path))?;
        self.check_own(path, &leaf)?;
        Ok(CertificateSerial::from_bytes(leaf.raw_serial()))
    }

    fn check_own(&self, path: &Path, leaf: &X509Certificate<'_>) -> Result<(), CertgenError> {
        if leaf.is_ca() {
            return Err(CertgenError::NotALeaf(path.to_owned()));
        }
        let (_, own) = X509Certificate::from_der(self.certificate_der())
            .map_err(|_| certificate_facts::unreadable(path))?;
        if signed_by(leaf, &own) {
            Ok(())
        } else {
            Err(CertgenError::Foreign(path.to_owned()))
        }
    }

    fn check_renewable(
        &self,
        dir: &Path,
        path: &Path,
        old: &X509Certificate<'_>,
    ) -> Result<(), CertgenError> {
        self.check_own(path, old)?;
        let serial = CertificateSerial::from_bytes(old.raw_serial());
        match CrlContents::load(&paths::crl_path(dir), self.certificate_der()) {
            Ok(list) if list.contains(&serial) => Err(CertgenError::Revoked {
                path: path.to_owned(),
                serial,
            }),
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn usage(certificate: &X509Certificate<'_>) -> Option<LeafUsage> {
    let usages = certificate.extended_key_usage().ok()??.value;
    let others = usages.any
        || usages.code_signing
        || usages.email_protection
        || usages.time_stamping
        || usages.ocsp_signing
        || !usages.other.is_empty();
    match (usages.server_auth, usages.client_auth, others) {
        (true, false, false) => Some(LeafUsage::Server),
        (false, true, false) => Some(LeafUsage::Client),
        _ => None,
    }
}

fn subject(name: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut copy = DistinguishedName::new();
    for part in name.iter_attributes() {
        let kind: Vec<u64> = part.attr_type().iter()?.collect();
        let kind = match kind.as_slice() {
            [2, 5, 4, 3] => DnType::CommonName,
            other => DnType::from_oid(other),
        };
        copy.push(kind, value(part)?);
    }
    Some(copy)
}

fn value(part: &AttributeTypeAndValue<'_>) -> Option<DnValue> {
    let text = part.as_str().ok()?;
    match part.attr_value().tag() {
        Tag::Utf8String => Some(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => Some(DnValue::PrintableString(text.try_into().ok()?)),
        Tag::Ia5String => Some(DnValue::Ia5String(text.try_into().ok()?)),
        _ => None,
    }
}

fn sans(certificate: &X509Certificate<'_>) -> Option<Vec<SanType>> {
    let Some(names) = certificate.subject_alternative_name().ok()? else {
        return Some(Vec::new());
    };
    names.value.general_names.iter().map(san).collect()
}

fn san(name: &GeneralName<'_>) -> Option<SanType> {
    if let GeneralName::DNSName(name) = name {
        return Some(SanType::DnsName((*name).try_into().ok()?));
    }
    if let GeneralName::URI(uri) = name {
        return Some(SanType::URI((*uri).try_into().ok()?));
    }
    if let GeneralName::IPAddress(octets) = name {
        return certificate_facts::ip_address(octets).map(SanType::IpAddress);
    }
    None
}
