//! `ban:` of the policy: sources that the kernel blocks for a while.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::duration::duration;
use crate::fields::MappingFields;
use crate::fields::address::prefixes;
use crate::fields::number::count;
use crate::format::BAN;
use crate::ip_prefix::IpPrefix;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Rule by which sources are banned that fail the handshake repeatedly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanPolicy {
    /// Number of failed handshakes within [`BanPolicy::within`] that lead to a ban.
    pub failures: NonZeroU32,
    /// Period in which failures are counted.
    pub within: Duration,
    /// Duration of a ban.
    pub duration: Duration,
    /// Prefixes whose addresses are never banned.
    pub never: Vec<IpPrefix>,
}

impl BanPolicy {
    /// Returns true if `source` may be banned. It may not if the ban, which covers the 64-bit
    /// network of an IPv6 address, would include an address in [`BanPolicy::never`].
    pub fn concerns(&self, source: IpAddr) -> bool {
        !self.never.iter().any(|prefix| prefix.meets_ban_of(source))
    }
}

/// Reads `ban:`. `None` means that a problem was reported.
pub(crate) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<BanPolicy> {
    let fields = MappingFields::of(node, &BAN, problems)?;
    Some(BanPolicy {
        failures: fields.value("failures", problems, count),
        within: fields.value("within", problems, duration),
        duration: fields.value("for", problems, duration),
        never: fields.or("never", Vec::new(), problems, prefixes),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::test_support::{assert_told, policy, with};

    fn banning(ban: &str) -> String {
        let groups = "groups: {a: {upstreams: ['10.0.0.1:1']}}\nclients: {}\n";
        with(groups).replacen("ca.crt}}", &format!("ca.crt}}, ban: {{{ban}}}}}"), 1)
    }

    #[test]
    fn a_ban_has_usual_numbers_and_spares_whom_it_is_told_to() {
        let read = policy(&banning("for: 2m, never: [192.0.2.0/24]"));
        let ban = read.gateway().ban.clone().unwrap();
        assert_eq!(
            (ban.failures.get(), ban.within),
            (20, Duration::from_secs(10))
        );
        assert_eq!(ban.duration, Duration::from_mins(2));
        let concerns = |source: &str| ban.concerns(source.parse().unwrap());
        assert!(concerns("198.51.100.1") && concerns("2001:db8::1"));
        assert!(!concerns("192.0.2.9") && !concerns("::ffff:192.0.2.9"));
        let read = policy(&banning("never: ['2001:db8::5']"));
        let ban = read.gateway().ban.clone().unwrap();
        let concerns = |source: &str| ban.concerns(source.parse().unwrap());
        assert!(!concerns("2001:db8::5"));
        assert!(!concerns("2001:db8::6"), "its ban would meet its neighbour");
        assert!(concerns("2001:db8:0:1::5"));
        assert_eq!(
            policy(&banning("").replace(", ban: {}", "")).gateway().ban,
            None
        );
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (ban, message) in [
            (
                "failures: 0",
                "3:77: `0` is not a count; expected a number from 1",
            ),
            (
                "for: unlimited",
                "3:72: `unlimited` is not a duration; expected one such as `500ms`, `5s`, `10m`, \
                 `1h` or `2d`; `unlimited` is not possible here",
            ),
            (
                "never: [x]",
                "3:75: `x` is not a prefix: expected an address or a prefix such as `192.0.2.0/24` or `2001:db8::/32`",
            ),
        ] {
            assert_told(&banning(ban), message);
        }
    }
}
