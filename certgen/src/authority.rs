//! A certificate authority: its certificate, its key, and the signing of leaves and lists.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::certificate_facts::date;
use crate::crl::{RevocationList, RevokedCertificate};
use crate::error::CertgenError;
use crate::issued::IssuedCertificate;
use crate::issuer_chain::IssuerChain;
use crate::paths::{self, CA_STEM};
use crate::profile;
use crate::sections;
use crate::serial::CertificateSerial;
use crate::signature::belongs;
use crate::spec::{AuthoritySpec, LeafSpec};
use crate::store::{self, DraftFile, FileAccess};

/// A certificate authority with its private key, which signs leaves, intermediate authorities and
/// revocation lists.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key_id: KeyIdMethod,
    chain: Arc<IssuerChain>,
    certificate_pem: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    path_len: Option<u32>,
}

impl Authority {
    /// Makes a self-signed authority with a new key, in memory; [`Authority::save`] stores it.
    ///
    /// # Errors
    ///
    /// A name or validity that a certificate may not have.
    pub fn new(spec: &AuthoritySpec) -> Result<Self, CertgenError> {
        let key = KeyPair::generate()?;
        let certificate = profile::authority(spec, &key)?.self_signed(&key)?;
        Self::of(
            vec![certificate.der().clone()],
            certificate.pem(),
            key,
            Path::new("the certificate"),
        )
    }

    /// Reads an authority from `ca.crt` and `ca.key`.
    ///
    /// The certificate of an intermediate authority may be followed by those above it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a certificate and key that do not belong together
    /// ([`CertgenError::KeyMismatch`]).
    pub fn load(dir: &Path) -> Result<Self, CertgenError> {
        let certificate = paths::certificate_path(dir, CA_STEM);
        let key = paths::key_path(dir, CA_STEM);
        let pem = store::read_file(&certificate)?;
        let pair = sections::key(&store::read_file(&key)?, &key)?;
        let chain = sections::certificates(&pem, &certificate)?;
        if !belongs(&chain[0], &pair) {
            return Err(CertgenError::KeyMismatch { certificate, key });
        }
        Self::of(chain, pem, pair, &certificate)
    }

    /// Writes drafts of the key and the certificate for a directory.
    pub(crate) fn drafts(&self, dir: &Path) -> Result<(DraftFile, DraftFile), CertgenError> {
        let certificate = paths::certificate_path(dir, CA_STEM);
        let key = paths::key_path(dir, CA_STEM);
        let key_pem = self.issuer.key().serialize_pem();
        Ok((
            DraftFile::new(&key, &key_pem, FileAccess::Sealed)?,
            DraftFile::new(&certificate, &self.certificate_pem, FileAccess::Public)?,
        ))
    }

    /// The authority's certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's certificate as DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        self.chain.own()
    }

    /// The last second of the authority's validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Issues a certificate for a server of these DNS names, wildcards and IP addresses, as
    /// [`LeafSpec::server`] specifies it.
    ///
    /// # Errors
    ///
    /// No name, or one that is neither a DNS name, a wildcard nor an IP address.
    pub fn server(&self, names: &[&str]) -> Result<IssuedCertificate, CertgenError> {
        self.issue(&LeafSpec::server(names)?)
    }

    /// Issues a certificate for the client of this name, as [`LeafSpec::client`] specifies it.
    ///
    /// # Errors
    ///
    /// A name that the gateway would refuse; see [`check_common_name`](crate::check_common_name).
    pub fn client(&self, common_name: &str) -> Result<IssuedCertificate, CertgenError> {
        self.issue(&LeafSpec::client(common_name))
    }

    /// Issues a leaf with a new key; its validity is cut to the end of the authority's.
    ///
    /// # Errors
    ///
    /// A name or validity that a leaf may not have, or an authority whose validity ends before the
    /// leaf's starts ([`CertgenError::AuthorityExpired`]).
    pub fn issue(&self, spec: &LeafSpec) -> Result<IssuedCertificate, CertgenError> {
        self.check_alive(spec.not_before)?;
        let not_after = spec.not_after.min(self.not_after);
        self.issue_custom(profile::leaf(&LeafSpec {
            not_after,
            ..spec.clone()
        })?)
    }

    /// Checks that the authority's validity has not ended at this time.
    ///
    /// # Errors
    ///
    /// [`CertgenError::AuthorityExpired`] at or after [`Authority::not_after`].
    pub fn check_alive(&self, at: OffsetDateTime) -> Result<(), CertgenError> {
        if at < self.not_after {
            Ok(())
        } else {
            Err(CertgenError::AuthorityExpired(date(self.not_after)))
        }
    }

    /// Signs the given parameters unchecked, with a new key; for tests with hostile certificates.
    ///
    /// A serial is chosen if the parameters have none.
    ///
    /// # Errors
    ///
    /// Years outside of 1950 to 9999, or parameters that the signer refuses.
    pub fn issue_custom(
        &self,
        mut params: CertificateParams,
    ) -> Result<IssuedCertificate, CertgenError> {
        profile::check_years(params.not_before, params.not_after)?;
        let serial = match &params.serial_number {
            Some(number) => CertificateSerial::from_bytes(number.as_ref()),
            None => CertificateSerial::random()?,
        };
        params
            .serial_number
            .get_or_insert_with(|| serial.as_bytes().to_vec().into());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = Arc::clone(&self.chain);
        Ok(IssuedCertificate::new(&certificate, key, serial, chain))
    }

    /// Makes an intermediate authority below this one, with the same validity and a new key.
    ///
    /// # Errors
    ///
    /// A path length that allows no further authority ([`CertgenError::PathLength`]), or a name
    /// that a certificate may not have.
    pub fn intermediate(&self, common_name: &str) -> Result<Self, CertgenError> {
        let path_len = match self.path_len {
            Some(0) => return Err(CertgenError::PathLength),
            Some(below) => u8::try_from(below - 1).unwrap_or(u8::MAX),
            None => 0,
        };
        let key = KeyPair::generate()?;
        let spec = AuthoritySpec {
            common_name: Some(common_name.to_owned()),
            not_before: self.not_before,
            not_after: self.not_after,
            path_len,
        };
        let mut params = profile::authority(&spec, &key)?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend_from_slice(self.chain.certificates());
        Self::of(chain, certificate.pem(), key, Path::new("the certificate"))
    }

    /// Signs a revocation list of these certificates, all of them revoked at `this_update`.
    ///
    /// # Errors
    ///
    /// A `next_update` that is not after `this_update`.
    pub fn crl(
        &self,
        revoked: &[CertificateSerial],
        this_update: OffsetDateTime,
        next_update: OffsetDateTime,
        number: u64,
    ) -> Result<RevocationList, CertgenError> {
        let entries: Vec<RevokedCertificate> = revoked
            .iter()
            .map(|serial| RevokedCertificate::new(serial.clone(), this_update))
            .collect();
        self.sign_crl(&entries, this_update..next_update, number)
    }

    pub(crate) fn sign_crl(
        &self,
        entries: &[RevokedCertificate],
        updates: Range<OffsetDateTime>,
        number: u64,
    ) -> Result<RevocationList, CertgenError> {
        profile::check_validity(updates.start, updates.end)?;
        let list = CertificateRevocationListParams {
            this_update: updates.start,
            next_update: updates.end,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: entries.iter().map(entry).collect(),
            key_identifier_method: self.key_id.clone(),
        }
        .signed_by(&self.issuer)?;
        Ok(RevocationList::new(list.der().clone(), list.pem()?))
    }

    fn of(
        certificates: Vec<CertificateDer<'static>>,
        certificate_pem: String,
        key: KeyPair,
        path: &Path,
    ) -> Result<Self, CertgenError> {
        let not_an_authority = || CertgenError::NotAnAuthority(path.to_owned());
        let chain = IssuerChain::upwards(certificates);
        let (_, parsed) = X509Certificate::from_der(chain.own()).map_err(|_| not_an_authority())?;
        let constraints = match parsed.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => constraints.value,
            _ => return Err(not_an_authority()),
        };
        let mut key_id = KeyIdMethod::Sha256;
        for extension in parsed.iter_extensions() {
            if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
                key_id = KeyIdMethod::PreSpecified(id.0.to_vec());
            }
        }
        Ok(Self {
            path_len: constraints.path_len_constraint,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            key_id,
            issuer: Issuer::from_ca_cert_der(chain.own(), key)?,
            chain: Arc::new(chain),
            certificate_pem,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

fn entry(revocation: &RevokedCertificate) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: revocation.serial().as_bytes().to_vec().into(),
        revocation_time: revocation.at(),
        reason_code: None,
        invalidity_date: None,
    }
}

#[cfg(test)]
mod tests;
