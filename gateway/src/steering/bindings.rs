//! The ports that a policy steers, as bindings for the kernel.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ebpf::{IpPrefix, PortBinding};

use policy::{self, MOST_STEERED_WORKERS, Policy, SteerMode};

// The policy refuses more workers than the kernel can steer to.
const _: () = assert!(MOST_STEERED_WORKERS == ebpf::MOST_WORKERS);

/// Returns the bindings of steered ports: the ports of `steer` and those of groups, at the
/// addresses of `steer`, and the addresses that the gateway listens on, so that the same rules
/// apply to their connections as to steered ones. Without steering there are none.
pub(crate) fn bindings(policy: &Policy) -> BTreeSet<PortBinding> {
    let gateway = policy.gateway();
    let steer = gateway.steer.as_ref();
    let Some(steer) = steer.filter(|steer| steer.mode != SteerMode::Off) else {
        return BTreeSet::new();
    };
    let ports = steer.ports.iter().cloned().flatten();
    let own = gateway.listen.iter().copied().filter_map(listened);
    ports
        .chain(policy.group_ports())
        .flat_map(|port| {
            let all = steer
                .addresses
                .is_empty()
                .then_some(PortBinding::Port(port));
            let some = steer.addresses.iter();
            let at = move |prefix: &policy::IpPrefix| {
                let prefix = IpPrefix::new(prefix.address(), prefix.length());
                PortBinding::At(port, prefix)
            };
            all.into_iter().chain(some.map(at))
        })
        .chain(own)
        .collect()
}

/// Returns the binding of an address that the gateway listens on; `None` if the kernel chooses the
/// port (port 0).
fn listened(address: SocketAddr) -> Option<PortBinding> {
    let (ip, port) = (address.ip(), address.port());
    let all_ipv4 = IpPrefix::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    match ip {
        _ if port == 0 => None,
        IpAddr::V6(ip) if ip.is_unspecified() => Some(PortBinding::Port(port)),
        IpAddr::V4(ip) if ip.is_unspecified() => Some(PortBinding::At(port, all_ipv4)),
        IpAddr::V4(_) | IpAddr::V6(_) => Some(PortBinding::At(port, ip.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steered(listen: &str, steer: &str) -> Vec<String> {
        let text = format!(
            "version: 1
gateway: {{listen: [{listen}], tls: {{certificate: c, key: k, client_ca: a}}{steer}}}
groups: {{a: {{ports: [8500], upstreams: ['10.0.0.1:1']}}}}
clients: {{}}
"
        );
        let policy = Policy::parse("p.yaml", &text).unwrap();
        bindings(&policy).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_of_the_gateway_and_of_groups_are_steered_at_the_addresses_that_are_given() {
        let with = |steer: &str| steered("'[::]:8443'", &format!(", steer: {{{steer}}}"));
        assert_eq!(with(""), ["*:8443", "*:8500"]);
        assert!(with("mode: off, ports: [443]").is_empty());
        let own = steered("'0.0.0.0:1', '[::1]:2', '10.0.0.1:0'", ", steer: {}");
        assert_eq!(own, ["*:8500", "0.0.0.0/0:1", "[::1/128]:2"]);
        assert_eq!(
            with("ports: [443, '7000-7002', 7001]"),
            ["*:443", "*:7000", "*:7001", "*:7002", "*:8443", "*:8500"]
        );
        assert_eq!(
            with("ports: [443], addresses: [192.0.2.0/24, '2001:db8::1']"),
            [
                "*:8443",
                "192.0.2.0/24:443",
                "[2001:db8::1/128]:443",
                "192.0.2.0/24:8500",
                "[2001:db8::1/128]:8500"
            ]
        );
        assert!(steered("'[::]:8443'", "").is_empty());
    }
}
