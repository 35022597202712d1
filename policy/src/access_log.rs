//! `access_log:` of the policy: the access records that are written.

use crate::fields::MappingFields;
use crate::fields::number::flag;
use crate::format::ACCESS_LOG;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Access records that are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccessLogPolicy {
    /// Records of the beginning of connections.
    pub opened: OpenedRecords,
}

/// Records of the beginning of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpenedRecords {
    /// A record is written when the relay of a connection begins.
    #[default]
    Written,
    /// Only the end of a connection is recorded.
    Off,
}

/// Reads `access_log:`. `None` means that a problem was reported.
pub(crate) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<AccessLogPolicy> {
    let fields = MappingFields::of(node, &ACCESS_LOG, problems)?;
    let opened = if fields.value("opened", problems, flag) {
        OpenedRecords::Written
    } else {
        OpenedRecords::Off
    };
    Some(AccessLogPolicy { opened })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{GROUPS, assert_told, policy, with};

    fn written(access_log: &str) -> String {
        let rest = format!("{GROUPS}clients: {{}}\n");
        with(&rest).replacen(
            "ca.crt}}",
            &format!("ca.crt}}, access_log: {access_log}}}"),
            1,
        )
    }

    #[test]
    fn the_beginning_of_connections_is_recorded_unless_that_is_switched_off() {
        for (text, opened) in [
            ("{}", OpenedRecords::Written),
            ("{opened: true}", OpenedRecords::Written),
            ("{opened: false}", OpenedRecords::Off),
        ] {
            assert_eq!(policy(&written(text)).gateway().access_log.opened, opened);
        }
        assert_told(
            &written("{opened: off}"),
            "3:82: `off` is unknown; expected `true` or `false`; did you mean `false`?",
        );
    }
}
