//! Reads names of application protocols.

use serde_json::json;

use super::text::filled;
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Longest name of an application protocol in ALPN, in bytes (RFC 7301 3.1).
const LONGEST_PROTOCOL: usize = 255;

pub(crate) static PROTOCOL: ScalarFormat = ScalarFormat {
    name: "Protocol",
    types: &["protocol"],
    doc: "The name of an application protocol, such as `h2`; at most 255 bytes.",
    schema: || json!({"type": "string", "minLength": 1, "maxLength": LONGEST_PROTOCOL}),
};

/// Reads the name of a protocol. `None` means that a problem was reported.
pub(crate) fn protocol(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<Vec<u8>> {
    let protocol = filled(node, problems)?;
    if protocol.len() > LONGEST_PROTOCOL {
        problems.report(
            node.at,
            format!("the protocol's name has more than {LONGEST_PROTOCOL} bytes"),
        );
        return None;
    }
    Some(protocol.as_bytes().to_vec())
}
