//! Contents of a client authority's certificate that the verification of a path does not check.

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::VerifiedPath;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::crl::has_signed;
use super::validity::{ValidityPeriod, unix};

/// Name, validity and restrictions of a client authority.
#[derive(Debug)]
pub(super) struct ClientAuthority {
    pub(super) name: String,
    pub(super) period: ValidityPeriod,
    /// Maximum number of intermediates below it (`pathLenConstraint`; RFC 5280, 4.2.1.9).
    longest_path: Option<u32>,
    /// True if its certificate is on its issuer's revocation list.
    pub(super) is_revoked: bool,
}

impl ClientAuthority {
    /// Reads the contents of its certificate.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let constraints = certificate.basic_constraints().ok().flatten();
        Self {
            name: certificate.subject().to_string(),
            period: ValidityPeriod::read(certificate),
            longest_path: constraints.and_then(|one| one.value.path_len_constraint),
            is_revoked: false,
        }
    }

    /// Returns the time until which this path may end at the authority.
    ///
    /// # Errors
    ///
    /// The authority is revoked or not valid now, or the path is too long for it.
    pub(super) fn check(
        &self,
        path: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<UnixTime, webpki::Error> {
        if self.is_revoked {
            return Err(webpki::Error::CertRevoked);
        }
        self.period.check(now)?;
        let intermediates = path.intermediate_certificates().zip(1..).last();
        if intermediates.map_or(0, |(_, count)| count) > self.longest_path.unwrap_or(u32::MAX) {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        Ok(unix(self.period.not_after))
    }
}

/// Parses an authority's certificate.
///
/// # Errors
///
/// It is malformed, or `basicConstraints` does not say that it is an authority.
pub(super) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, &'static str> {
    match X509Certificate::from_der(certificate) {
        Ok((rest, parsed)) if rest.is_empty() && parsed.is_ca() => Ok(parsed),
        Ok(([], _)) => Err("basicConstraints does not say so"),
        Ok(_) | Err(_) => Err("it is malformed"),
    }
}

/// Keeps those signers of lists that are client authorities themselves, which are the first
/// `authorities`, and those that a kept one has signed.
pub(super) fn keep_those_signed_by(issuers: &mut Vec<CertificateDer<'_>>, authorities: usize) {
    let mut others = issuers.split_off(authorities);
    loop {
        let (signed, rest): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|one| issuers.iter().any(|issuer| is_signed_by(one, issuer)));
        if signed.is_empty() {
            return;
        }
        issuers.extend(signed);
        others = rest;
    }
}

/// Returns true if one authority's certificate was issued by another: names and signature match.
pub(super) fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok(parsed), Ok(above)) = (parse(certificate), parse(issuer)) else {
        return false;
    };
    parsed.issuer().as_raw() == above.subject().as_raw()
        && has_signed(
            issuer,
            parsed.tbs_certificate.as_ref(),
            &parsed.signature_value.data,
        )
}
