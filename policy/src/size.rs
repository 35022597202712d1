//! Sizes in the form of the policy's file: `512MiB`, `4GiB`, or `unlimited`.

use std::num::NonZeroU64;

use serde_json::json;

use crate::fields::number::{positive, positive_pattern};
use crate::fields::quote;
use crate::fields::text::scalar;
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Units, each with the number of bits by which it shifts the number before it, and the largest
/// number of digits of that number. So no size is larger than a petabyte.
const UNITS: [(&str, u32, usize); 3] = [("KiB", 10, 12), ("MiB", 20, 9), ("GiB", 30, 6)];

pub(crate) static SIZE: ScalarFormat = ScalarFormat {
    name: "Size",
    types: &["size", "`unlimited`"],
    doc: "A size such as `512MiB` or `4GiB`, or `unlimited`.",
    schema: || {
        let units = UNITS.map(|(unit, _, digits)| positive_pattern(digits) + unit);
        json!({"type": "string", "pattern": format!("^({}|unlimited)$", units.join("|"))})
    },
};

/// Upper bound of the memory in use; above it, further clients are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// The memory of the control group and the machine, apart from a reserve.
    Group,
    /// This number of bytes for the process, but not more than with [`MemoryLimit::Group`].
    AtMost(NonZeroU64),
    /// No bound: the memory in use is not measured.
    Unlimited,
}

/// Reads a size or `unlimited`. `None` means that a problem was reported.
pub(crate) fn memory(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<MemoryLimit> {
    let said = scalar(node, problems)?;
    if said == "unlimited" {
        return Some(MemoryLimit::Unlimited);
    }
    let bytes = parse_size(said);
    if bytes.is_none() {
        problems.report(
            node.at,
            format!(
                "{} is not a size; expected one such as `512MiB` or `4GiB`, or `unlimited`",
                quote(said)
            ),
        );
    }
    bytes.map(MemoryLimit::AtMost)
}

fn parse_size(text: &str) -> Option<NonZeroU64> {
    let (number, (_, shift, digits)) = UNITS
        .iter()
        .find_map(|unit| Some((text.strip_suffix(unit.0)?, unit)))?;
    NonZeroU64::new(positive(number, *digits)? << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_is_not_nothing() {
        let bytes = |text| parse_size(text).map(NonZeroU64::get);
        assert_eq!(bytes("1KiB"), Some(1024));
        assert_eq!(bytes("512MiB"), Some(512 * 1024 * 1024));
        assert_eq!(bytes("4GiB"), Some(4 * 1024 * 1024 * 1024));
        for wrong in [
            "",
            "1",
            "0MiB",
            "1MB",
            "+1MiB",
            "-1MiB",
            "1.5GiB",
            "99999999999GiB",
            "MiB",
        ] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
