//! Conversion of the policy's quotas into the types that count.

use lb::Limit;

use policy::Quota;

/// Converts a [`Quota`] to a [`Limit`].
pub(crate) fn limit(quota: Quota) -> Limit {
    match quota {
        Quota::Unlimited => Limit::Unlimited,
        Quota::AtMost(most) => Limit::AtMost(most),
    }
}

/// Returns the largest number that a [`Quota`] allows.
pub(crate) fn count(quota: Quota) -> usize {
    match quota {
        Quota::Unlimited => usize::MAX,
        Quota::AtMost(most) => most.get() as usize,
    }
}
