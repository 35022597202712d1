//! Validity periods of certificates and lists, and warnings before their end.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use x509_parser::prelude::{ASN1Time, X509Certificate};

/// Time before the end of a certificate at which warnings begin, in seconds: 14 days.
const SOON: u64 = 14 * 24 * 60 * 60;
/// Fraction of a revocation list's period that is left when warnings begin: a quarter. Lists are
/// valid for hours or for months, and a new one is usually issued before half of the period is
/// over.
const LIST_SOON: u64 = 4;

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

    /// Returns the warning about a certificate that expires soon.
    pub(crate) fn ending(self, now: UnixTime) -> Option<String> {
        let left = self.not_after.saturating_sub(now.as_secs());
        (left < SOON).then(|| format!("expires on {}", date(self.not_after)))
    }

    /// Returns the warning about a revocation list that has expired or expires soon. Its successor
    /// is due at the end.
    pub(crate) fn list_ending(self, now: UnixTime) -> Option<String> {
        let (whole, left) = (
            self.not_after.saturating_sub(self.not_before),
            self.not_after.saturating_sub(now.as_secs()),
        );
        let end = date(self.not_after);
        match left {
            0 => Some(format!("expired on {end} (nextUpdate)")),
            _ if left < SOON.min(whole / LIST_SOON) => {
                Some(format!("expires on {end} (nextUpdate)"))
            }
            _ => None,
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

/// Formats a time for people.
fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(time)
        .map_or_else(|_| "the end of time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    /// What is said of something of these days: its state, its end, and its end if it is a list.
    fn told(days: u64, now: u64) -> [Option<String>; 3] {
        let validity = ValidityPeriod {
            not_before: 100 * DAY,
            not_after: (100 + days) * DAY,
        };
        let now = unix(now);
        [
            validity.lapse(now),
            validity.ending(now),
            validity.list_ending(now),
        ]
        .map(|told| told.map(|told| told.replace(&date(validity.not_after), "END")))
    }

    #[test]
    fn the_first_and_the_last_second_are_valid() {
        let begin = date(100 * DAY);
        let early = format!("is not valid before {begin}");
        assert_eq!(told(1, 100 * DAY - 1)[0], Some(early));
        assert_eq!(told(1, 100 * DAY)[0], None);
        assert_eq!(told(1, 101 * DAY)[0], None);
        let late = "expired on END".to_owned();
        assert_eq!(told(1, 101 * DAY + 1)[0], Some(late));
        assert!(begin.contains("1970"), "{begin}");
    }

    #[test]
    fn the_end_of_a_certificate_is_told_two_weeks_before() {
        let end = 200 * DAY;
        assert_eq!(told(100, end - 14 * DAY)[1], None);
        let soon = Some("expires on END".to_owned());
        assert_eq!(told(100, end - 14 * DAY + 1)[1], soon);
        assert_eq!(told(100, end + DAY)[1], soon);
    }

    #[test]
    fn the_end_of_a_list_is_told_in_its_last_quarter_and_two_weeks_before() {
        let soon = Some("expires on END (nextUpdate)".to_owned());
        for (days, before) in [(8, 2), (100, 14)] {
            let end = (100 + days) * DAY;
            assert_eq!(told(days, end - before * DAY)[2], None);
            assert_eq!(told(days, end - before * DAY + 1)[2], soon);
            assert_eq!(told(days, end - 1)[2], soon);
            let over = Some("expired on END (nextUpdate)".to_owned());
            assert_eq!(told(days, end)[2], over);
        }
    }
}
