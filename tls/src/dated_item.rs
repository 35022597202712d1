//! The certificates and revocation lists of the settings, with the dates on which they end.

use rustls_pki_types::UnixTime;

use crate::expiry::Lifetime;
use crate::files::SettingsFile;
use crate::identity::Fingerprint;
use crate::trust::validity::date;

/// Certificate or revocation list of the settings, with its lifetime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedItem {
    /// Kind of the item.
    pub kind: DatedKind,
    /// The file that it was read from.
    pub file: SettingsFile,
    /// The certificate's subject; a list's issuer and number.
    pub subject: String,
    /// Its lifetime.
    pub lifetime: Lifetime,
    /// Hash of its contents.
    pub fingerprint: Fingerprint,
    /// Consequence of the end, and the next step.
    pub advice: &'static str,
}

/// Kind of a [`DatedItem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatedKind {
    /// The gateway's own certificate.
    ServerCertificate,
    /// A certificate that is sent with it.
    ServerChain,
    /// A client authority.
    ClientAuthority,
    /// A revocation list that has effect.
    RevocationList,
}

impl DatedKind {
    /// Returns the name of the kind, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerCertificate => "server certificate",
            Self::ServerChain => "server chain",
            Self::ClientAuthority => "client authority",
            Self::RevocationList => "revocation list",
        }
    }
}

impl DatedItem {
    /// Returns the sentence about the end, such as `CN=gateway expires on …; renew it`. Times are
    /// in RFC 3339.
    pub fn describe(&self, now: UnixTime) -> String {
        let Self { kind, subject, .. } = self;
        let end = date(self.last());
        let what = match kind {
            DatedKind::RevocationList => format!("the list of {subject}"),
            DatedKind::ServerCertificate | DatedKind::ServerChain | DatedKind::ClientAuthority => {
                subject.clone()
            }
        };
        let mark = match kind {
            DatedKind::RevocationList => " (nextUpdate)",
            DatedKind::ServerCertificate | DatedKind::ServerChain | DatedKind::ClientAuthority => {
                ""
            }
        };
        let verb = if now.as_secs() < self.lifetime.end() {
            "expires"
        } else {
            "expired"
        };
        format!("{what} {verb} on {end}{mark}; {}", self.advice)
    }

    /// Returns the time that the file says, in seconds of Unix time: the last second of a
    /// certificate (`notAfter`), or the end of a list (`nextUpdate`).
    fn last(&self) -> u64 {
        match self.kind {
            DatedKind::RevocationList => self.lifetime.end(),
            DatedKind::ServerCertificate | DatedKind::ServerChain | DatedKind::ClientAuthority => {
                self.lifetime.end().saturating_sub(1)
            }
        }
    }

    /// Returns the end as the file says it, in RFC 3339.
    pub fn ends_at(&self) -> String {
        date(self.last())
    }
}
