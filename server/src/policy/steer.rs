//! `steer:` of the policy: ports that the kernel steers to the gateway.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ebpf::{IpPrefix, PortBinding};

use super::Policy;
use super::fields::address::{ports, prefixes};
use super::fields::{self, MappingFields};
use super::format::STEER;
use super::problem::ProblemList;
use super::yaml::YamlNode;

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
pub(super) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<SteerPolicy> {
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

impl Policy {
    /// Returns the bindings of steered ports: the ports of `steer` and those of groups, at the
    /// addresses of `steer`, and the addresses that the gateway listens on, so that the same rules
    /// apply to their connections as to steered ones. Without steering there are none.
    pub fn bindings(&self) -> BTreeSet<PortBinding> {
        let steer = self.gateway.steer.as_ref();
        let Some(steer) = steer.filter(|steer| steer.mode != SteerMode::Off) else {
            return BTreeSet::new();
        };
        let ports = steer.ports.iter().cloned().flatten();
        let own = self.gateway.listen.iter().copied().filter_map(listened);
        ports
            .chain(self.index.ports())
            .flat_map(|port| {
                let all = steer
                    .addresses
                    .is_empty()
                    .then_some(PortBinding::Port(port));
                let some = steer.addresses.iter();
                all.into_iter()
                    .chain(some.map(move |&prefix| PortBinding::At(port, prefix)))
            })
            .chain(own)
            .collect()
    }
}

/// Returns the binding of an address that the gateway listens on; `None` if the kernel chooses the
/// port (port 0).
fn listened(address: SocketAddr) -> Option<PortBinding> {
    let (ip, port) = (address.ip(), address.port());
    match ip {
        _ if port == 0 => None,
        IpAddr::V6(ip) if ip.is_unspecified() => Some(PortBinding::Port(port)),
        IpAddr::V4(ip) if ip.is_unspecified() => Some(PortBinding::At(port, IpPrefix::ALL_IPV4)),
        IpAddr::V4(_) | IpAddr::V6(_) => Some(PortBinding::At(port, ip.into())),
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::tests::{assert_told, policy, with};

    fn steering(steer: &str) -> String {
        let groups = "groups: {a: {ports: [8500], upstreams: ['10.0.0.1:1']}}\nclients: {}\n";
        with(groups).replacen("ca.crt}}", &format!("ca.crt}}, steer: {{{steer}}}}}"), 1)
    }

    fn bindings(steer: &str) -> Vec<String> {
        let rules = policy(&steering(steer)).bindings();
        rules.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_of_the_gateway_and_of_groups_are_steered_at_the_addresses_that_are_given() {
        assert_eq!(bindings(""), ["*:8443", "*:8500"]);
        assert!(bindings("mode: off, ports: [443]").is_empty());
        let own =
            policy(&steering("").replace("'[::]:8443'", "'0.0.0.0:1', '[::1]:2', '10.0.0.1:0'"));
        let own: Vec<_> = own.bindings().iter().map(ToString::to_string).collect();
        assert_eq!(own, ["*:8500", "0.0.0.0/0:1", "[::1/128]:2"]);
        assert_eq!(
            bindings("ports: [443, '7000-7002', 7001]"),
            ["*:443", "*:7000", "*:7001", "*:7002", "*:8443", "*:8500"]
        );
        assert_eq!(
            bindings("ports: [443], addresses: [192.0.2.0/24, '2001:db8::1']"),
            [
                "*:8443",
                "192.0.2.0/24:443",
                "[2001:db8::1/128]:443",
                "192.0.2.0/24:8500",
                "[2001:db8::1/128]:8500"
            ]
        );
        let without = steering("").replacen(", steer: {}", "", 1);
        assert!(policy(&without).bindings().is_empty());
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
