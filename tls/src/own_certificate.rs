//! The gateway's own certificate and private key, checked as its clients check them.

use std::path::Path;

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    ServerName, UnixTime,
};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::dated_item::{DatedItem, DatedKind};
use crate::expiry::Lifetime;
use crate::faults::TlsError;
use crate::files::{SettingsFile, SettingsFinding};
use crate::identity::Fingerprint;
use crate::trust::validity::ValidityPeriod;
use crate::trust::{self, ClientTrust, has_signed};

/// Label that is checked in the place of `*`.
const ANY_LABEL: &str = "any-name";

/// The gateway's own certificate and the chain that is sent with it.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    chain: Vec<CertificateDer<'static>>,
    validity: ValidityPeriod,
    /// Each certificate of the chain with its dates.
    dated: Vec<DatedItem>,
}

impl OwnCertificate {
    /// Checks a chain, the leaf first, that clients can read and that is for servers.
    ///
    /// # Errors
    ///
    /// A certificate cannot be read, or the leaf has no DNS name and no address or is not for
    /// `serverAuth`.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        for (index, certificate) in chain.iter().enumerate() {
            webpki::EndEntityCert::try_from(certificate).map_err(|error| {
                format!("clients cannot read certificate {}: {error}", index + 1)
            })?;
        }
        let leaf = chain.first().ok_or("contains no certificate")?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| format!("clients cannot read the certificate: {error}"))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("clients cannot read the certificate's names: {error}"))?;
        let is_name = |name: &GeneralName<'_>| {
            matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))
        };
        if !names.is_some_and(|names| names.value.general_names.iter().any(is_name)) {
            return Err(
                "has no DNS name and no address (subjectAltName), so clients cannot verify it"
                    .to_owned(),
            );
        }
        let purposes = parsed
            .extended_key_usage()
            .map_err(|error| format!("clients cannot read the certificate's purposes: {error}"))?;
        if purposes.is_some_and(|purposes| !purposes.value.server_auth && !purposes.value.any) {
            return Err("is not for servers (no serverAuth)".to_owned());
        }
        let validity = ValidityPeriod::read(&parsed);
        let dated = chain.iter().enumerate();
        let dated = dated.filter_map(|(index, one)| dated_item(index, one));
        let dated = dated.collect();
        Ok(Self {
            chain,
            validity,
            dated,
        })
    }

    /// Returns the certificate itself, without the chain.
    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Returns the reason why the certificate is not valid now; `None` if it is.
    pub(crate) fn lapse(&self, now: UnixTime) -> Option<String> {
        self.validity.lapse(now)
    }

    /// Returns each certificate of the chain, with its dates.
    pub(crate) fn dated(&self) -> &[DatedItem] {
        &self.dated
    }

    /// Returns a test for names: true if clients that ask for the name accept the certificate
    /// (RFC 9525, 6.3). A name may begin with `*.`, which is then checked as one label.
    pub(crate) fn names(&self) -> impl Fn(&str) -> bool + use<'_> {
        let leaf = EndEntityCert::try_from(self.leaf()).ok();
        move |name| {
            let name = match name.strip_prefix("*.") {
                Some(parent) => format!("{ANY_LABEL}.{parent}"),
                None => name.to_owned(),
            };
            let leaf = leaf.as_ref();
            ServerName::try_from(name).map_or(true, |name| {
                leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
            })
        }
    }

    /// Returns the warnings about the chain.
    pub(crate) fn warnings(&self, trust: &ClientTrust) -> Vec<SettingsFinding> {
        let missing = self.missing_chain(trust).into_iter();
        missing
            .map(|what| SettingsFinding::new(SettingsFile::Certificate, what))
            .collect()
    }

    /// Returns the warning about a chain that clients which know only the root cannot verify.
    fn missing_chain(&self, trust: &ClientTrust) -> Option<String> {
        for (index, pair) in self.chain.windows(2).enumerate() {
            let [certificate, issuer] = pair else {
                continue;
            };
            if !is_issued_by(certificate, issuer) {
                return Some(format!(
                    "certificate {} in the file did not issue the one before it",
                    index + 2
                ));
            }
        }
        let (_, last) = X509Certificate::from_der(self.chain.last()?).ok()?;
        if last.issuer().as_raw() == last.subject().as_raw() {
            return None;
        }
        // An issuer that has an issuer of its own is not a root, and clients trust roots.
        let is_below = trust.is_intermediate(last.issuer().as_raw())
            || (self.chain.len() == 1 && names_its_issuers_place(&last));
        is_below.then(|| {
            format!(
                "the certificate of {} does not follow it in the file; clients that know only the \
                 root cannot verify it",
                last.issuer()
            )
        })
    }
}

/// Returns the certificate at this place of the chain, with its dates; `None` if it is malformed.
fn dated_item(index: usize, certificate: &CertificateDer<'_>) -> Option<DatedItem> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let (kind, advice) = match index {
        0 => (
            DatedKind::ServerCertificate,
            "clients refuse it after that; renew it",
        ),
        _ => (
            DatedKind::ServerChain,
            "clients may refuse the chain after that; replace it",
        ),
    };
    Some(DatedItem {
        kind,
        advice,
        file: SettingsFile::Certificate,
        subject: parsed.subject().to_string(),
        lifetime: Lifetime::of_certificate(ValidityPeriod::read(&parsed)),
        fingerprint: Fingerprint::of(certificate),
    })
}

/// Returns true if a certificate gives the address of its issuer's certificate (authority
/// information access), as those do that intermediates issue.
fn names_its_issuers_place(certificate: &X509Certificate<'_>) -> bool {
    use x509_parser::oid_registry::OID_PKIX_AUTHORITY_INFO_ACCESS;
    matches!(
        certificate.get_extension_unique(&OID_PKIX_AUTHORITY_INFO_ACCESS),
        Ok(Some(_))
    )
}

fn is_issued_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok((_, below)), Ok((_, above))) = (
        X509Certificate::from_der(certificate),
        X509Certificate::from_der(issuer),
    ) else {
        return false;
    };
    below.issuer().as_raw() == above.subject().as_raw()
        && has_signed(
            issuer,
            below.tbs_certificate.as_ref(),
            &below.signature_value.data,
        )
}

/// Reads the one private key of a file, which may hold certificates and parameters as well.
///
/// # Errors
///
/// The file cannot be read, holds other sections, or does not hold exactly one private key.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mut keys = Vec::new();
    for section in trust::sections(path)? {
        match &*section.label {
            "PRIVATE KEY" => keys.push(PrivatePkcs8KeyDer::from(section.der).into()),
            "RSA PRIVATE KEY" => keys.push(PrivatePkcs1KeyDer::from(section.der).into()),
            "EC PRIVATE KEY" => keys.push(PrivateSec1KeyDer::from(section.der).into()),
            "CERTIFICATE" | "EC PARAMETERS" | "DH PARAMETERS" => {}
            _ => return Err(trust::foreign(path, section).into()),
        }
    }
    let count = keys.len();
    keys.pop()
        .filter(|_| count == 1)
        .ok_or_else(|| TlsError::Keys {
            path: path.to_owned(),
            count,
        })
}
