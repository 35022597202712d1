//! The contents of the policy's files, as a gateway takes them.

use std::sync::Arc;

use policy::{Policy, PolicyChange};
use tls::TlsSettings;

/// A valid [`Policy`] with the valid contents of the files that it names.
#[derive(Debug)]
pub struct LoadedPolicy {
    policy: Policy,
    tls: Arc<TlsSettings>,
}

/// The policy that is to follow the one in force, with the contents of its files.
#[derive(Debug)]
pub struct NextPolicy {
    pub(crate) policy: Policy,
    /// The differences between the policy in force and this one.
    pub(crate) changes: Vec<PolicyChange>,
    pub(crate) tls: Arc<TlsSettings>,
}

impl LoadedPolicy {
    /// Creates it from a policy and the contents of the files that it names.
    pub fn new(policy: Policy, tls: impl Into<Arc<TlsSettings>>) -> Self {
        let tls = tls.into();
        Self { policy, tls }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Applies `changes` to the policy and keeps the contents of the files.
    #[must_use]
    pub fn changed(mut self, changes: &[PolicyChange]) -> Self {
        self.policy = self.policy.apply(changes);
        self
    }

    /// Returns the contents of the files for TLS.
    pub fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    pub(crate) fn into_parts(self) -> (Policy, Arc<TlsSettings>) {
        (self.policy, self.tls)
    }
}

#[cfg(test)]
impl LoadedPolicy {
    /// Loads the policy of `files`.
    pub(crate) fn of_files(files: &crate::test_support::GatewayFiles) -> Self {
        let policy = Policy::parse("policy.yaml", files.policy()).unwrap();
        let settings = crate::tls_files::settings_files(&policy.gateway().tls, files.dir());
        let tls = TlsSettings::load(&settings, rustls_pki_types::UnixTime::now()).unwrap();
        Self::new(policy, tls)
    }
}

impl NextPolicy {
    /// Creates it from the result of [`Policy::parse_next`] and the contents of the files that the
    /// policy names.
    pub fn new(
        (policy, changes): (Policy, Vec<PolicyChange>),
        tls: impl Into<Arc<TlsSettings>>,
    ) -> Self {
        let tls = tls.into();
        Self {
            policy,
            changes,
            tls,
        }
    }
}
