//! Validity periods of certificates and lists.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::X509Certificate;

/// Validity period in seconds of Unix time, including the last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValidityPeriod {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl ValidityPeriod {
    /// Reads a certificate's validity period.
    pub(crate) fn read(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: seconds(validity.not_before.timestamp()),
            not_after: seconds(validity.not_after.timestamp()),
        }
    }

    /// Checks that the time `now` is in the period. The error says whether it is before the
    /// beginning or after the end.
    pub(crate) fn check(self, now: UnixTime) -> Result<(), webpki::Error> {
        if now.as_secs() < self.not_before {
            return Err(webpki::Error::CertNotValidYet {
                time: now,
                not_before: unix(self.not_before),
            });
        }
        if now.as_secs() > self.not_after {
            return Err(webpki::Error::CertExpired {
                time: now,
                not_after: unix(self.not_after),
            });
        }
        Ok(())
    }

    /// Returns the reason why a certificate is not valid now; `None` if it is valid.
    pub(crate) fn lapse(self, now: UnixTime) -> Option<String> {
        match self.check(now) {
            Ok(()) => None,
            Err(webpki::Error::CertNotValidYet { .. }) => {
                Some(format!("is not valid before {}", date(self.not_before)))
            }
            Err(_) => Some(format!("expired on {}", date(self.not_after))),
        }
    }
}

/// Converts a timestamp to seconds of Unix time; times before 1970 become 0.
pub(crate) fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

/// Converts seconds of Unix time to a time.
pub(crate) fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Formats seconds of Unix time in RFC 3339. A year of more than four digits is the end of time.
pub(crate) fn date(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "the end of time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    #[test]
    fn the_first_and_the_last_second_are_valid() {
        let period = ValidityPeriod {
            not_before: 100 * DAY,
            not_after: 101 * DAY,
        };
        let told = |now| period.lapse(unix(now));
        let early = "is not valid before 1970-04-11T00:00:00Z".to_owned();
        assert_eq!(told(100 * DAY - 1), Some(early));
        assert_eq!(told(100 * DAY), None);
        assert_eq!(told(101 * DAY), None);
        let late = "expired on 1970-04-12T00:00:00Z".to_owned();
        assert_eq!(told(101 * DAY + 1), Some(late));
        assert_eq!(date(u64::MAX), "the end of time");
    }
}
