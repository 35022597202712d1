//! The gateway's own certificate and private key, checked as its clients check them.

use std::path::Path;

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    ServerName, UnixTime,
};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::faults::TlsError;
use crate::files::{SettingsFile, SettingsFinding};
use crate::trust::validity::ValidityPeriod;
use crate::trust::{self, ClientTrust, has_signed};

/// Maximum number of missing names that a warning lists.
const NAMES_SHOWN: usize = 5;
/// Label that is checked in the place of `*`.
const ANY_LABEL: &str = "any-name";

/// The gateway's own certificate and the chain that is sent with it.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    chain: Vec<CertificateDer<'static>>,
    validity: ValidityPeriod,
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
        Ok(Self { chain, validity })
    }

    /// Returns the certificate itself, without the chain.
    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Returns the reason why the certificate is not valid now; `None` if it is.
    pub(crate) fn lapse(&self, now: UnixTime) -> Option<String> {
        self.validity.lapse(now)
    }

    /// Returns the warnings about the certificate: its dates, its chain, and those of `names` that
    /// it lacks. A name may begin with `*.`.
    pub(crate) fn warnings(
        &self,
        names: &[String],
        trust: &ClientTrust,
        now: UnixTime,
    ) -> Vec<SettingsFinding> {
        let dates = self.lapse(now).or_else(|| self.validity.ending(now));
        dates
            .into_iter()
            .chain(self.missing_chain(trust))
            .chain(self.missing_names(names))
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

    /// Returns the warning about names of groups for which the certificate is not valid.
    fn missing_names(&self, names: &[String]) -> Option<String> {
        let leaf = EndEntityCert::try_from(self.leaf()).ok()?;
        let is_missing = |name: &str| {
            let name = match name.strip_prefix("*.") {
                Some(parent) => format!("{ANY_LABEL}.{parent}"),
                None => name.to_owned(),
            };
            ServerName::try_from(name)
                .is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_err())
        };
        let missing: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| is_missing(name))
            .collect();
        let shown = missing[..missing.len().min(NAMES_SHOWN)].join(", ");
        match missing.len() {
            0 => None,
            count if count > NAMES_SHOWN => Some(format!(
                "is not valid for {count} names of groups, among them {shown}; clients that ask \
                 for them fail"
            )),
            _ => Some(format!(
                "is not valid for {shown}; clients that ask for these names fail"
            )),
        }
    }
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
