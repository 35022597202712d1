//! Sizes as the file writes them: `512MiB`, `4GiB`, or `unlimited`.

use std::num::NonZeroU64;

use super::problem::Problems;
use super::read::{quote, text};
use super::yaml::Node;

/// How much memory may be in use before further clients are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// As much as the control group and the machine have, apart from a reserve.
    Group,
    /// The process may have so many bytes, if the control group and the machine have them.
    AtMost(NonZeroU64),
    /// It is not measured.
    Unlimited,
}

/// A size, or the word for none.
pub(super) fn memory(node: &Node<'_>, problems: &mut Problems) -> Option<MemoryLimit> {
    let said = text(node, problems)?;
    if said == "unlimited" {
        return Some(MemoryLimit::Unlimited);
    }
    let bytes = parse_size(said);
    if bytes.is_none() {
        problems.report(
            node.at,
            format!(
                "{} is no size; expected one such as `512MiB` or `4GiB`, or `unlimited`",
                quote(said)
            ),
        );
    }
    bytes.map(MemoryLimit::AtMost)
}

fn parse_size(text: &str) -> Option<NonZeroU64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    NonZeroU64::new(bytes)
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
