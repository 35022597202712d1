//! Every variant that can be made is told in words.

use rustls::{ContentType, HandshakeType, InconsistentKeys, OtherError};

use super::*;

/// Each of these variants of an enum.
macro_rules! each {
    ($kind:ident: $($variant:ident)*) => {
        [$($kind::$variant),*]
    };
}

/// All ways in which a peer breaks the rules that have a name.
fn misbehaved() -> impl Iterator<Item = rustls::Error> {
    let all = each!(PeerMisbehaved: AttemptedDowngradeToTls12WhenTls13IsSupported
        BadCertChainExtensions CipherSuiteDifferedOnRetry DisallowedEncryptedExtension
        DuplicateClientHelloExtensions DuplicateEncryptedExtensions DuplicateHelloRetryRequestExtensions
        DuplicateNewSessionTicketExtensions DuplicateServerHelloExtensions DuplicateServerNameTypes
        EarlyDataAttemptedInSecondClientHello EarlyDataExtensionWithoutResumption
        EarlyDataOfferedWithVariedCipherSuite EchAcceptanceVariedAfterRetry
        HandshakeHashVariedAfterRetry IllegalHelloRetryRequestWithEmptyCookie
        IllegalHelloRetryRequestWithNoChanges IllegalHelloRetryRequestWithOfferedGroup
        IllegalHelloRetryRequestWithUnofferedCipherSuite IllegalHelloRetryRequestWithUnofferedNamedGroup
        IllegalHelloRetryRequestWithUnsupportedVersion IllegalHelloRetryRequestWithWrongSessionId
        IllegalHelloRetryRequestWithInvalidEch IllegalMiddleboxChangeCipherSpec IllegalTlsInnerPlaintext
        IncorrectBinder InvalidCertCompression InvalidMaxEarlyDataSize InvalidKeyShare
        KeyEpochWithPendingFragment KeyUpdateReceivedInQuicConnection
        MessageInterleavedWithHandshakeMessage MissingBinderInPskExtension MissingKeyShare
        MissingPskExtensionInSecondClientHello MissingPskModesExtension MissingQuicTransportParameters
        OfferedDuplicateCertificateCompressions OfferedDuplicateKeyShares
        OfferedEarlyDataWithOldProtocolVersion OfferedEmptyApplicationProtocol
        OfferedIncorrectCompressions PskExtensionMustBeLast PskExtensionWithMismatchedIdsAndBinders
        RefusedToFollowHelloRetryRequest RejectedEarlyDataInterleavedWithHandshakeMessage
        ResumptionAttemptedWithVariedEms ResumptionOfferedWithVariedCipherSuite
        ResumptionOfferedWithVariedEms ResumptionOfferedWithIncompatibleCipherSuite
        SelectedDifferentCipherSuiteAfterRetry SelectedInvalidPsk
        SelectedTls12UsingTls13VersionExtension SelectedUnofferedApplicationProtocol
        SelectedUnofferedCertCompression SelectedUnofferedCipherSuite SelectedUnofferedCompression
        SelectedUnofferedKxGroup SelectedUnofferedPsk SelectedUnusableCipherSuiteForVersion
        ServerEchoedCompatibilitySessionId ServerHelloMustOfferUncompressedEcPoints
        ServerNameDifferedOnRetry ServerNameMustContainOneHostName SignedKxWithWrongAlgorithm
        SignedHandshakeWithUnadvertisedSigScheme TooManyEmptyFragments TooManyKeyUpdateRequests
        TooManyRenegotiationRequests TooManyWarningAlertsReceived TooMuchEarlyDataReceived
        UnexpectedCleartextExtension UnsolicitedCertExtension UnsolicitedEncryptedExtension
        UnsolicitedSctList UnsolicitedServerHelloExtension WrongGroupForKeyShare
        UnsolicitedEchExtension);
    all.into_iter().map(rustls::Error::PeerMisbehaved)
}

fn tls_errors() -> Vec<rustls::Error> {
    use rustls::Error as E;
    let incompatible = each!(PeerIncompatible: EcPointsExtensionRequired
        ExtendedMasterSecretExtensionRequired IncorrectCertificateTypeExtension
        KeyShareExtensionRequired NamedGroupsExtensionRequired
        NoCertificateRequestSignatureSchemesInCommon NoCipherSuitesInCommon NoEcPointFormatsInCommon
        NoKxGroupsInCommon NoSignatureSchemesInCommon NullCompressionRequired
        ServerDoesNotSupportTls12Or13 ServerSentHelloRetryRequestWithUnknownExtension
        ServerTlsVersionIsDisabledByOurConfig SignatureAlgorithmsExtensionRequired
        SupportedVersionsExtensionRequired Tls12NotOffered Tls12NotOfferedOrEnabled Tls13RequiredForQuic
        UncompressedEcPointsRequired UnsolicitedCertificateTypeExtension);
    let messages = each!(InvalidMessage: CertificatePayloadTooLarge HandshakePayloadTooLarge
        InvalidCcs InvalidContentType InvalidCertificateStatusType InvalidCertRequest InvalidDhParams
        InvalidEmptyPayload InvalidKeyUpdate InvalidServerName MessageTooLarge MessageTooShort
        MissingKeyExchange NoSignatureSchemes UnknownProtocolVersion UnsupportedCompression
        UnsupportedCurveType EmptyTicketValue IllegalEmptyValue PreSharedKeyIsNotFinalExtension
        UnknownHelloRetryRequestExtension UnknownCertificateExtension);
    let more = [
        InvalidMessage::MissingData("ClientHello"),
        InvalidMessage::TrailingData("ClientHello"),
        InvalidMessage::UnexpectedMessage("ClientHello"),
        InvalidMessage::IllegalEmptyList("ProtocolNames"),
        InvalidMessage::DuplicateExtension(16),
    ];
    let certificates = each!(CertificateError: BadEncoding Expired NotValidYet Revoked
        UnhandledCriticalExtension UnknownIssuer UnknownRevocationStatus ExpiredRevocationList BadSignature
        NotValidForName InvalidPurpose InvalidOcspResponse ApplicationVerificationFailure);
    let mut all = vec![
        E::InappropriateMessage {
            expect_types: vec![ContentType::Handshake],
            got_type: ContentType::ApplicationData,
        },
        E::InappropriateHandshakeMessage {
            expect_types: vec![HandshakeType::ClientHello],
            got_type: HandshakeType::Finished,
        },
        E::NoCertificatesPresented,
        E::UnsupportedNameType,
        E::DecryptError,
        E::EncryptError,
        E::General("NoneOfThis".to_owned()),
        E::FailedToGetCurrentTime,
        E::FailedToGetRandomBytes,
        E::HandshakeNotComplete,
        E::PeerSentOversizedRecord,
        E::NoApplicationProtocol,
        E::BadMaxFragmentSize,
        E::InconsistentKeys(InconsistentKeys::KeyMismatch),
        E::InvalidCertRevocationList(rustls::CertRevocationListError::ParseError),
        E::InvalidEncryptedClientHello(rustls::EncryptedClientHelloError::InvalidConfigList),
        E::Other(OtherError(std::sync::Arc::new(std::io::Error::other(
            "NoneOfThis",
        )))),
    ];
    all.extend(misbehaved());
    all.extend(incompatible.map(E::PeerIncompatible));
    all.extend(messages.into_iter().chain(more).map(E::InvalidMessage));
    all.extend(certificates.map(E::InvalidCertificate));
    all.extend((0..=255).map(|alert| E::AlertReceived(alert.into())));
    all
}

fn chain_errors() -> Vec<webpki::Error> {
    use webpki::Error as W;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
    let mut all = each!(W: BadDer BadDerTime CaUsedAsEndEntity CertDistrusted CertRevoked
        EmptyEkuExtension EndEntityUsedAsCa ExtensionValueInvalid InvalidCertValidity InvalidCrlNumber
        InvalidNetworkMaskConstraint InvalidSerialNumber InvalidCrlSignatureForPublicKey
        InvalidSignatureForPublicKey IssuerNotCrlSigner MalformedDnsIdentifier MalformedExtensions
        MalformedNameConstraint MaximumNameConstraintComparisonsExceeded MaximumPathBuildCallsExceeded
        MaximumPathDepthExceeded MaximumSignatureChecksExceeded NameConstraintViolation
        PathLenConstraintViolated SignatureAlgorithmMismatch UnknownIssuer UnknownRevocationStatus
        UnsupportedCertVersion UnsupportedCriticalExtension UnsupportedCrlIssuingDistributionPoint
        UnsupportedCrlVersion UnsupportedDeltaCrl UnsupportedIndirectCrl UnsupportedNameType
        UnsupportedRevocationReason UnsupportedRevocationReasonsPartitioning).to_vec();
    all.extend([
        W::CertExpired {
            time,
            not_after: time,
        },
        W::CertNotValidYet {
            time,
            not_before: time,
        },
        W::CrlExpired {
            time,
            next_update: time,
        },
    ]);
    all
}

/// Fails for what is no plain words: names that only their library's sources explain.
fn assert_plain(said: &str, debug: &str) {
    assert!(said.starts_with(char::is_lowercase), "{said}");
    assert!(!said.ends_with('.') && !said.contains("  "), "{said}");
    let name = debug.split(|c: char| !c.is_alphanumeric()).next_back();
    assert!(
        name.is_none_or(|name| name.len() < 8 || !said.contains(name)),
        "{said}"
    );
    let known = ["ClientHello", "ChangeCipherSpec"];
    for word in said.split(|c: char| !c.is_alphanumeric()) {
        let humps = word.matches(char::is_lowercase).count() > 3
            && word.matches(char::is_uppercase).count() > 1;
        assert!(!humps || known.contains(&word), "{said}");
    }
}

#[test]
fn every_error_of_tls_is_told_in_plain_words() {
    for error in tls_errors() {
        assert_plain(&tls(&error), &format!("{error:?}"));
    }
}

#[test]
fn every_fault_of_a_chain_is_told_in_plain_words() {
    for error in chain_errors() {
        assert_plain(&chain(&error), &format!("{error:?}"));
    }
}

#[test]
fn a_date_of_a_chain_is_told_with_the_time_since_or_until_then() {
    use webpki::Error as W;
    let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let then = 1_700_000_000;
    for (seconds, span) in [
        (0, "0 s"),
        (7, "7 s"),
        (60, "1 min"),
        (2 * 3600 - 1, "1 h"),
        (86_400, "1 day"),
        (172_800, "2 days"),
    ] {
        let (time, not_after) = (at(then + seconds), at(then));
        let expired = W::CertExpired { time, not_after };
        let said = format!("a certificate expired {span} ago, at 2023-11-14T22:13:20Z");
        assert_eq!(chain(&expired), said);
        let (time, next_update) = (at(then + seconds), at(then));
        let expired = W::CrlExpired { time, next_update };
        let said = format!("the revocation list expired {span} ago, at 2023-11-14T22:13:20Z");
        assert_eq!(chain(&expired), said);
        let (time, not_before) = (at(then - seconds), at(then));
        let early = W::CertNotValidYet { time, not_before };
        let said = format!("a certificate becomes valid in {span}, at 2023-11-14T22:13:20Z");
        assert_eq!(chain(&early), said);
    }
}

#[test]
fn what_a_client_lacks_is_named() {
    for (error, named) in [
        (
            PeerIncompatible::Tls12NotOfferedOrEnabled,
            "TLS 1.3 is required",
        ),
        (
            PeerIncompatible::SupportedVersionsExtensionRequired,
            "TLS 1.3 is required",
        ),
        (PeerIncompatible::NoKxGroupsInCommon, "X25519MLKEM768"),
        (
            PeerIncompatible::NoCipherSuitesInCommon,
            "TLS_AES_128_GCM_SHA256",
        ),
    ] {
        assert!(tls(&error.into()).contains(named));
    }
}
