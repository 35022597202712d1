//! Reads addresses, prefixes, and ranges of ports.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use serde_json::json;

use super::list::list;
use super::number::{number, positive, unquoted};
use super::text::scalar;
use crate::format::kinds::ScalarFormat;
use crate::ip_prefix::IpPrefix;
use crate::problem::ProblemList;
use policy_yaml::{YamlNode, YamlValue};
use policy_yaml::{describe, quote};

const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// Approximate pattern of an IPv6 address: the number of its groups is left to the parser.
const IPV6: &str = "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*";
/// Pattern of a port from 1 to 65535.
const PORT: &str =
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";

pub(crate) fn ipv4_pattern() -> String {
    format!("{OCTET}(\\.{OCTET}){{3}}")
}

fn with_port(port: &str) -> String {
    let ipv4 = ipv4_pattern();
    format!("^({ipv4}|\\[{IPV6}(%[0-9]+)?\\]):0*{port}$")
}

pub(crate) static LISTEN: ScalarFormat = ScalarFormat {
    name: "Listen",
    types: &["address"],
    doc: "An IP address with a port, such as `192.0.2.1:8443` or `[::]:8443`. With port 0 the kernel chooses one.",
    schema: || json!({"type": "string", "pattern": with_port(&format!("({PORT}|0)"))}),
};

pub(crate) static UPSTREAM_ADDRESS: ScalarFormat = ScalarFormat {
    name: "UpstreamAddress",
    types: &["address"],
    doc: "An IP address with a port, such as `10.0.0.1:5432` or `[::1]:5432`.",
    schema: || {
        let unspecified = r"^(0\.0\.0\.0|\[[0:.]+(%[0-9]+)?\]):";
        let address = with_port(PORT);
        json!({"type": "string", "pattern": address, "not": {"pattern": unspecified}})
    },
};

pub(crate) static PREFIX: ScalarFormat = ScalarFormat {
    name: "Prefix",
    types: &["address", "prefix"],
    doc: "An IP address, or a prefix such as `192.0.2.0/24` or `2001:db8::/32`.",
    schema: || {
        let ipv4 = ipv4_pattern();
        let (of_32, of_128) = (
            "0*(3[0-2]|[12]?[0-9])",
            "0*(12[0-8]|1[01][0-9]|[1-9]?[0-9])",
        );
        let pattern = format!("^({ipv4}(/{of_32})?|{IPV6}(/{of_128})?)$");
        json!({"type": "string", "pattern": pattern})
    },
};

pub(crate) static PORT_RANGE: ScalarFormat = ScalarFormat {
    name: "PortRange",
    types: &["range"],
    doc: "The first and the last of several ports, such as `7000-7100`.",
    schema: || json!({"type": "string", "pattern": format!("^{PORT}-{PORT}$")}),
};

/// Reads an IP address with a port. `None` means that a problem was reported.
pub(crate) fn address(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<SocketAddr> {
    let said = scalar(node, problems)?;
    let address = said.parse::<SocketAddr>().ok();
    if address.is_none() && said.contains('%') {
        problems.report(
            node.at,
            format!("{} is not an address; expected the zone as the interface's number, which `ip link` shows first, such as `[fe80::1%2]:5432`", quote(said)),
        );
    } else if address.is_none() {
        problems.report(
            node.at,
            format!("{} is not an address; expected an IP address with a port, such as `10.0.0.1:5432` or `[::1]:5432`", quote(said)),
        );
    }
    address
}

/// Reads an address that can be connected to: port and IP address are not zero. `None` means that a
/// problem was reported.
pub(crate) fn connectable(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<SocketAddr> {
    let address = address(node, problems)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        let said = describe(node);
        problems.report(
            node.at,
            format!("{said} cannot be an upstream; expected an address and a port to connect to"),
        );
        return None;
    }
    Some(address)
}

/// Reads a port, or a range such as `7000-7100`. `None` means that a problem was reported.
pub(crate) fn ports(
    node: &YamlNode<'_>,
    problems: &mut ProblemList,
) -> Option<RangeInclusive<u16>> {
    let said = scalar(node, problems)?;
    let range = if let YamlValue::Number(_) = node.value {
        number(node).map(|port| (port, port))
    } else {
        let port = |text: &str| positive(text, 5).and_then(|port| u32::try_from(port).ok());
        let ends = said.split_once('-');
        ends.and_then(|(first, last)| port(first).zip(port(last)))
    };
    let port = |port| u16::try_from(port).ok().filter(|port| *port != 0);
    let range = range.and_then(|(first, last)| port(first).zip(port(last)));
    let range = range.filter(|(first, last)| first <= last);
    if range.is_none() {
        let (said, hint) = (quote(said), unquoted(node));
        let expected = "a number from 1 to 65535";
        problems.report(
            node.at,
            format!(
                "{said} is not a port; expected {expected}{hint}, or a range such as `7000-7100`"
            ),
        );
    }
    range.map(|(first, last)| first..=last)
}

/// Reads a list of addresses and prefixes. `None` means that a problem was reported.
pub(crate) fn prefixes(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Vec<IpPrefix>> {
    list(node, "addresses or prefixes", problems, prefix)
}

fn prefix(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<IpPrefix> {
    let said = scalar(node, problems)?;
    let prefix = said.parse::<IpPrefix>();
    if let Err(error) = &prefix {
        problems.report(node.at, format!("{} is not a prefix: {error}", quote(said)));
    }
    prefix.ok()
}
