//! Descriptions of other libraries' TLS errors for records and error messages.
//!
//! The libraries print the names of their own variants, which do not help to find the cause. All of
//! their errors that are shown anywhere are described here.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums are other crates', and grow"
)]

use rustls::{
    AlertDescription, CertificateError, InvalidMessage, PeerIncompatible, PeerMisbehaved,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Describes the reason why a TLS handshake with a client failed.
pub fn tls(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } => {
            "the client sent an unexpected message".to_owned()
        }
        E::InvalidMessage(what) => message(*what).to_owned(),
        E::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        E::UnsupportedNameType => "the client asked for an unknown type of name (SNI)".to_owned(),
        E::DecryptError => {
            "cannot decrypt a record of the client: it was changed on the way, or encrypted with \
             another key"
                .to_owned()
        }
        E::PeerIncompatible(what) => incompatible(what).to_owned(),
        E::PeerMisbehaved(what) => misbehaved(what).to_owned(),
        E::AlertReceived(alert) => received(*alert),
        E::InvalidCertificate(what) => certificate(what).to_owned(),
        E::InvalidCertRevocationList(_) => "a revocation list cannot be used".to_owned(),
        E::PeerSentOversizedRecord => "the client sent a record longer than TLS allows".to_owned(),
        E::NoApplicationProtocol => {
            "the client offers no application protocol (ALPN) of the group".to_owned()
        }
        E::InconsistentKeys(_) => "the key is not the certificate's".to_owned(),
        E::FailedToGetCurrentTime => "cannot read the system clock".to_owned(),
        E::FailedToGetRandomBytes => "cannot get random bytes from the system".to_owned(),
        E::InvalidEncryptedClientHello(_) => {
            "encrypted ClientHello (ECH) is not supported".to_owned()
        }
        E::EncryptError => "cannot encrypt a record".to_owned(),
        E::HandshakeNotComplete => "the handshake is not finished".to_owned(),
        _ => "the TLS library refused".to_owned(),
    }
}

fn incompatible(what: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as P;
    match what {
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::SupportedVersionsExtensionRequired
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig => {
            "the client offers TLS 1.2 at most; TLS 1.3 is required"
        }
        P::NoCipherSuitesInCommon => {
            "the client offers no common cipher suite; supported are TLS_AES_128_GCM_SHA256, \
             TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256"
        }
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::KeyShareExtensionRequired => {
            "the client offers no common key-exchange group; supported are X25519MLKEM768, x25519, \
             secp256r1 and secp384r1"
        }
        P::NoSignatureSchemesInCommon
        | P::NoCertificateRequestSignatureSchemesInCommon
        | P::SignatureAlgorithmsExtensionRequired => {
            "the client accepts no signature algorithm of the gateway's key"
        }
        P::NullCompressionRequired => "the client requires compression",
        P::IncorrectCertificateTypeExtension | P::UnsolicitedCertificateTypeExtension => {
            "the client offers another type of certificate than X.509"
        }
        _ => "client and gateway have no TLS parameters in common",
    }
}

fn misbehaved(what: &PeerMisbehaved) -> &'static str {
    use PeerMisbehaved as P;
    match what {
        P::IncorrectBinder => "the client does not have the secret of its ticket",
        P::SignedHandshakeWithUnadvertisedSigScheme => {
            "the client signed with an algorithm that the gateway did not offer"
        }
        P::RefusedToFollowHelloRetryRequest
        | P::CipherSuiteDifferedOnRetry
        | P::ServerNameDifferedOnRetry
        | P::HandshakeHashVariedAfterRetry
        | P::MissingPskExtensionInSecondClientHello
        | P::EarlyDataAttemptedInSecondClientHello => {
            "the client's second ClientHello does not match its first"
        }
        P::ServerNameMustContainOneHostName | P::DuplicateServerNameTypes => {
            "the client asked for several names at once"
        }
        P::OfferedDuplicateKeyShares | P::InvalidKeyShare | P::WrongGroupForKeyShare => {
            "the client's key share is invalid"
        }
        P::OfferedIncorrectCompressions => {
            "the client offers compression, which TLS 1.3 does not \
                                            have"
        }
        P::PskExtensionMustBeLast
        | P::PskExtensionWithMismatchedIdsAndBinders
        | P::MissingBinderInPskExtension
        | P::MissingPskModesExtension => {
            "the client's ticket extension (PSK) is malformed or \
                                          misplaced"
        }
        P::DuplicateClientHelloExtensions => "the client sent an extension twice",
        P::TooMuchEarlyDataReceived | P::RejectedEarlyDataInterleavedWithHandshakeMessage => {
            "the client sent early data, which is not supported"
        }
        P::TooManyEmptyFragments
        | P::TooManyKeyUpdateRequests
        | P::TooManyWarningAlertsReceived
        | P::TooManyRenegotiationRequests => "the client sent too many messages without content",
        P::IllegalMiddleboxChangeCipherSpec => {
            "the client, or a device in between, sent ChangeCipherSpec at the wrong time"
        }
        P::MessageInterleavedWithHandshakeMessage | P::KeyEpochWithPendingFragment => {
            "the client sent another record in the middle of a handshake message"
        }
        P::UnsolicitedCertExtension
        | P::InvalidCertCompression
        | P::SelectedUnofferedCertCompression => {
            "the client sent its certificate in a form that the gateway did not offer"
        }
        _ => "the client broke a rule of TLS",
    }
}

fn message(what: InvalidMessage) -> &'static str {
    use InvalidMessage as I;
    match what {
        I::InvalidContentType => "the client sent bytes that are not a TLS record",
        I::UnknownProtocolVersion => "the client sent a record of an unknown version of TLS",
        I::MessageTooLarge => "the client sent a record longer than TLS allows",
        I::HandshakePayloadTooLarge => "the client sent a handshake message that is too large",
        I::CertificatePayloadTooLarge => "the client's certificates are too large",
        I::InvalidServerName => "the client asked for a name that is not a DNS name",
        I::InvalidCcs => "the client, or a device in between, sent a malformed ChangeCipherSpec",
        I::InvalidKeyUpdate => "the client sent a malformed key update",
        I::InvalidEmptyPayload => "the client sent an empty record",
        I::DuplicateExtension(_) => "the client sent an extension twice",
        I::PreSharedKeyIsNotFinalExtension => {
            "the client's ticket extension (PSK) is malformed or \
                                               misplaced"
        }
        I::NoSignatureSchemes => "the client offers no signature algorithm",
        I::UnsupportedCompression => "the client requires compression",
        I::UnexpectedMessage(_) => "the client sent an unexpected message",
        I::MessageTooShort
        | I::MissingData(_)
        | I::TrailingData(_)
        | I::IllegalEmptyList(_)
        | I::IllegalEmptyValue
        | I::EmptyTicketValue => "the client sent a message whose lengths do not match",
        _ => "the client sent a malformed message",
    }
}

fn certificate(what: &CertificateError) -> &'static str {
    use CertificateError as C;
    match what {
        C::Expired | C::ExpiredContext { .. } => "a certificate has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "a certificate is not valid yet",
        C::Revoked => "a certificate was revoked",
        C::UnknownIssuer => "no known authority issued the certificate",
        C::UnknownRevocationStatus
        | C::ExpiredRevocationList
        | C::ExpiredRevocationListContext { .. } => {
            "no current revocation list covers the certificate"
        }
        C::BadSignature => "a signature does not match the certificate's key",
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a signature algorithm is not supported"
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "the certificate is not for this purpose"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "the certificate is for other names"
        }
        C::UnhandledCriticalExtension => "the certificate has an unknown critical extension",
        C::ApplicationVerificationFailure => "the certificate was refused",
        _ => "the certificate is malformed",
    }
}

/// Describes an alert that a client sent (RFC 9846, 6).
fn received(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let why = match alert {
        A::UnknownCA => "it does not know the authority of the gateway's certificate",
        A::BadCertificate | A::CertificateUnknown | A::UnsupportedCertificate => {
            "it rejects the gateway's certificate"
        }
        A::CertificateExpired => {
            "it considers the gateway's certificate expired; check both clocks"
        }
        A::CertificateRevoked => "it considers the gateway's certificate revoked",
        A::UnrecognisedName => "the gateway's certificate does not have the name that it asked for",
        A::HandshakeFailure | A::InsufficientSecurity | A::ProtocolVersion => {
            "it found no TLS parameters that both sides support"
        }
        A::CloseNotify | A::UserCanceled => "it aborted",
        A::NoApplicationProtocol => "it does not support the application protocol that was chosen",
        A::InternalError => "it had an internal error",
        _ => "it rejected what it received",
    };
    format!(
        "the client ended the handshake (alert {}): {why}",
        u8::from(alert)
    )
}

/// Describes the reason why a chain is not trusted.
pub fn chain(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CertExpired { time, not_after } => format!(
            "a certificate expired {} ago, at {}",
            span(*not_after, *time),
            date(*not_after)
        ),
        E::CertNotValidYet { time, not_before } => format!(
            "a certificate becomes valid in {}, at {}",
            span(*time, *not_before),
            date(*not_before)
        ),
        E::CrlExpired { time, next_update } => format!(
            "the revocation list expired {} ago, at {}",
            span(*next_update, *time),
            date(*next_update)
        ),
        other => plain(other).to_owned(),
    }
}

fn plain(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match error {
        E::CertRevoked => "a certificate was revoked",
        E::UnknownIssuer => "no client authority of the gateway issued it",
        E::InvalidSignatureForPublicKey => {
            "a certificate was not signed by the authority that it names"
        }
        E::UnknownRevocationStatus => "no revocation list covers one of its issuers",
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            "it is not for client authentication"
        }
        E::CaUsedAsEndEntity => "it is an authority's, not a client's",
        E::EndEntityUsedAsCa => "it was issued by a certificate that is not an authority's",
        E::InvalidCertValidity => "the dates of a certificate contradict each other",
        E::PathLenConstraintViolated => {
            "the path to the authority is longer than an authority allows"
        }
        E::NameConstraintViolation => "an authority may not issue certificates for this name",
        E::MaximumNameConstraintComparisonsExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded => "finding the path to an authority takes too long",
        E::UnsupportedCriticalExtension => "a certificate has an unknown critical extension",
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => "a certificate is signed in a way that is not supported",
        E::UnsupportedCertVersion => "a certificate is not of X.509 version 3",
        E::InvalidSerialNumber => "a certificate has no proper serial number",
        E::IssuerNotCrlSigner => "an authority may not sign the revocation list that it signed",
        E::InvalidCrlNumber
        | E::InvalidCrlSignatureForPublicKey
        | E::UnsupportedCrlIssuingDistributionPoint
        | E::UnsupportedCrlVersion
        | E::UnsupportedDeltaCrl
        | E::UnsupportedIndirectCrl
        | E::UnsupportedRevocationReason
        | E::UnsupportedRevocationReasonsPartitioning
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            "a revocation list cannot be used"
        }
        E::CertNotValidForName(_)
        | E::UnsupportedNameType
        | E::MalformedDnsIdentifier
        | E::MalformedNameConstraint
        | E::InvalidNetworkMaskConstraint => "a certificate has names that cannot be checked",
        _ => "a certificate is malformed",
    }
}

/// Returns the time between two moments in its largest unit, rounded down.
fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        86_400..172_800 => "1 day".to_owned(),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| "a date that is out of range".to_owned())
}

#[cfg(test)]
mod tests;
