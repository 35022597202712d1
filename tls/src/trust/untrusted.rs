//! Reasons why a client's chain is not trusted, for the access record and for the alert.

use rustls_pki_types::CertificateDer;
use thiserror::Error;

use crate::tls_messages;

/// Maximum number of intermediates that a client may present.
pub const MOST_INTERMEDIATES: usize = 3;
/// Maximum size in bytes of a client's whole chain in DER.
pub const LARGEST_CHAIN: usize = 16 * 1024;

/// Reason why a client's chain is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UntrustedChain {
    /// The chain exceeds [`MOST_INTERMEDIATES`] or [`LARGEST_CHAIN`].
    #[error("the chain has {intermediates} intermediates and {bytes} bytes")]
    TooLarge {
        /// Number of certificates in addition to the leaf.
        intermediates: usize,
        /// Size of all certificates in bytes.
        bytes: usize,
    },
    /// The chain failed the verification.
    #[error("the certificate is not trusted: {}", tls_messages::chain(.0))]
    Chain(webpki::Error),
}

impl UntrustedChain {
    /// Returns the reason's code in the access record, from a closed list.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is another crate's, and grows"
    )]
    pub fn reason(&self) -> &'static str {
        use webpki::Error as E;
        let Self::Chain(error) = self else {
            return "chain_too_large";
        };
        match error {
            E::CertExpired { .. } | E::InvalidCertValidity => "certificate_expired",
            E::CertNotValidYet { .. } => "certificate_not_yet_valid",
            E::CertRevoked => "certificate_revoked",
            // A forged authority has the name of a real one, but not its key.
            E::UnknownIssuer | E::InvalidSignatureForPublicKey => "unknown_authority",
            E::CrlExpired { .. } | E::UnknownRevocationStatus => "revocation_unknown",
            E::RequiredEkuNotFoundContext(_) | E::CaUsedAsEndEntity => "certificate_purpose",
            _ => "bad_certificate",
        }
    }

    /// Returns the error that makes rustls send the matching alert (RFC 9846, 6.2).
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is another crate's, and grows"
    )]
    pub fn alert(&self) -> rustls::Error {
        use rustls::CertificateError as C;
        use webpki::Error as E;
        let Self::Chain(error) = self else {
            return C::BadEncoding.into();
        };
        match error {
            E::CertExpired { .. } | E::InvalidCertValidity => C::Expired,
            E::CertNotValidYet { .. } => C::NotValidYet,
            E::CertRevoked => C::Revoked,
            E::UnknownIssuer | E::InvalidSignatureForPublicKey => C::UnknownIssuer,
            E::CrlExpired { .. } => C::ExpiredRevocationList,
            E::UnknownRevocationStatus => C::UnknownRevocationStatus,
            E::RequiredEkuNotFoundContext(_) | E::CaUsedAsEndEntity => C::InvalidPurpose,
            _ => C::BadEncoding,
        }
        .into()
    }
}

/// Refuses a chain with more than [`MOST_INTERMEDIATES`] or [`LARGEST_CHAIN`], which would cost too
/// much to verify.
///
/// # Errors
///
/// [`UntrustedChain`] with the size of the chain.
pub(crate) fn bound(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), UntrustedChain> {
    let bytes = leaf.len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
    if intermediates.len() > MOST_INTERMEDIATES || bytes > LARGEST_CHAIN {
        return Err(UntrustedChain::TooLarge {
            intermediates: intermediates.len(),
            bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError as C;
    use rustls_pki_types::UnixTime;
    use webpki::Error as E;

    use super::*;

    #[test]
    fn each_reason_has_its_word_and_its_alert() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        let (not_before, not_after, next_update) = (time, time, time);
        let unknown_purpose = E::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
            required: webpki::KeyUsage::client_auth(),
            present: Vec::new(),
        });
        let expired = ("certificate_expired", C::Expired);
        let unknown = ("unknown_authority", C::UnknownIssuer);
        let purpose = ("certificate_purpose", C::InvalidPurpose);
        for (error, (reason, alert)) in [
            (E::CertExpired { time, not_after }, expired.clone()),
            (E::InvalidCertValidity, expired),
            (
                E::CertNotValidYet { time, not_before },
                ("certificate_not_yet_valid", C::NotValidYet),
            ),
            (E::CertRevoked, ("certificate_revoked", C::Revoked)),
            (E::UnknownIssuer, unknown.clone()),
            (E::InvalidSignatureForPublicKey, unknown),
            (
                E::CrlExpired { time, next_update },
                ("revocation_unknown", C::ExpiredRevocationList),
            ),
            (
                E::UnknownRevocationStatus,
                ("revocation_unknown", C::UnknownRevocationStatus),
            ),
            (unknown_purpose, purpose.clone()),
            (E::CaUsedAsEndEntity, purpose),
            (E::BadDer, ("bad_certificate", C::BadEncoding)),
        ] {
            let untrusted = UntrustedChain::Chain(error);
            let told = (untrusted.reason(), untrusted.alert());
            assert_eq!(told, (reason, alert.into()));
        }
        let large = UntrustedChain::TooLarge {
            intermediates: 4,
            bytes: 1,
        };
        let told = (large.reason(), large.alert());
        assert_eq!(told, ("chain_too_large", C::BadEncoding.into()));
    }
}
