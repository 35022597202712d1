//! `steer:` of the policy: ports that the kernel steers to the gateway.

use std::ops::RangeInclusive;

use crate::fields::address::{ports, prefixes};
use crate::fields::{self, MappingFields};
use crate::format::STEER;
use crate::ip_prefix::IpPrefix;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Ports that the kernel steers to the gateway, in addition to those that it listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteerPolicy {
    /// Behaviour if the kernel cannot steer.
    pub mode: SteerMode,
    /// Ranges of ports, each with its first and its last port.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Destination addresses for which these ports are steered; an empty list means all.
    pub addresses: Vec<IpPrefix>,
}

/// Behaviour of the gateway if the kernel cannot steer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SteerMode {
    /// The gateway does not start.
    Required,
    /// The gateway reports it and serves the addresses that it listens on.
    Auto,
    /// Steering is not attempted.
    Off,
}

/// Reads `steer:`. `None` means that a problem was reported.
pub(crate) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<SteerPolicy> {
    let fields = MappingFields::of(node, &STEER, problems)?;
    let words = [
        ("required", SteerMode::Required),
        ("auto", SteerMode::Auto),
        ("off", SteerMode::Off),
    ];
    let mode = fields.value("mode", problems, |node, problems| {
        fields::word(node, &words, problems)
    });
    let list = |node: &YamlNode<'_>, problems: &mut ProblemList| {
        fields::list(node, "ports", problems, ports)
    };
    Some(SteerPolicy {
        mode,
        ports: fields.or("ports", Vec::new(), problems, list),
        addresses: fields.or("addresses", Vec::new(), problems, prefixes),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_support::{assert_told, with};

    fn steering(steer: &str) -> String {
        let groups = "groups: {a: {ports: [8500], upstreams: ['10.0.0.1:1']}}\nclients: {}\n";
        with(groups).replacen("ca.crt}}", &format!("ca.crt}}, steer: {{{steer}}}}}"), 1)
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        for (steer, message) in [
            (
                "ports: [0]",
                "3:77: `0` is not a port; expected a number from 1 to 65535, or a range such as `7000-7100`",
            ),
            (
                "ports: ['9-8']",
                "3:77: `9-8` is not a port; expected a number from 1 to 65535, or a range such as `7000-7100`",
            ),
            (
                "addresses: [192.0.2.1/24]",
                "3:81: `192.0.2.1/24` is not a prefix: the address has bits that are set after the \
                 first 24",
            ),
            (
                "mode: on",
                "3:75: `on` is unknown; expected `required` or `auto` or `off`",
            ),
            (
                "port: [1]",
                "3:69: unknown key `port` in `steer`; did you mean `ports`?",
            ),
        ] {
            assert_told(&steering(steer), message);
        }
    }
}
