//! `workers:` of the policy: the number of workers, and the processors that they run on.

use std::num::NonZeroU32;

use crate::fields::{self, MappingFields};
use crate::format::WORKERS;
use crate::problem::ProblemList;
use crate::steer::{SteerMode, SteerPolicy};
use crate::worker_count::{MOST, MOST_STEERED_WORKERS, count};
use policy_yaml::{YamlNode, YamlValue};

/// Number of workers, and their binding to processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerPolicy {
    /// Number of workers; `None` is one for each processor that the process may use.
    pub count: Option<NonZeroU32>,
    /// Binding of each worker to one processor.
    pub affinity: WorkerAffinity,
}

/// Binding of workers to processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WorkerAffinity {
    /// The kernel moves workers between processors.
    #[default]
    Off,
    /// Each worker stays on one processor.
    On,
}

/// Reads `workers:`, a number or a mapping. `None` means that a problem was reported.
pub(crate) fn read(
    node: &YamlNode<'_>,
    steer: Option<&SteerPolicy>,
    problems: &mut ProblemList,
) -> Option<WorkerPolicy> {
    let steers = steer.is_some_and(|steer| steer.mode != SteerMode::Off);
    let most = if steers { MOST_STEERED_WORKERS } else { MOST };
    if let YamlValue::Flag(_) | YamlValue::Number(_) | YamlValue::Text(_) = node.value {
        let count = Some(count(node, most, problems)?);
        let affinity = WorkerAffinity::Off;
        return Some(WorkerPolicy { count, affinity });
    }
    let fields = MappingFields::of(node, &WORKERS, problems)?;
    let count = fields.or("count", None, problems, |node, problems| {
        count(node, most, problems).map(Some)
    });
    let affinity = fields.value("affinity", problems, |node, problems| {
        let words = [("on", WorkerAffinity::On), ("off", WorkerAffinity::Off)];
        fields::word(node, &words, problems)
    });
    Some(WorkerPolicy { count, affinity })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{GROUPS, assert_told, policy, with};

    fn written(workers: &str) -> String {
        let rest = format!("{GROUPS}clients: {{}}\n");
        with(&rest).replacen("ca.crt}}", &format!("ca.crt}}, {workers}}}"), 1)
    }

    #[test]
    fn workers_are_a_number_or_a_number_and_whether_they_are_pinned() {
        let count = NonZeroU32::new(3);
        for (text, count, affinity) in [
            ("workers: 3", count, WorkerAffinity::Off),
            ("workers: {count: 3}", count, WorkerAffinity::Off),
            (
                "workers: {count: 3, affinity: on}",
                count,
                WorkerAffinity::On,
            ),
            ("workers: {affinity: on}", None, WorkerAffinity::On),
            ("workers: {affinity: off}", None, WorkerAffinity::Off),
            ("workers: {affinity: true}", None, WorkerAffinity::On),
            ("workers: ", None, WorkerAffinity::Off),
            ("on_revoke: cut", None, WorkerAffinity::Off),
        ] {
            let workers = policy(&written(text)).gateway().workers;
            assert_eq!(workers, WorkerPolicy { count, affinity }, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_of_workers_is_told_with_its_place() {
        for (text, message) in [
            (
                "workers: 0",
                "3:70: `0` is not a count; expected a number from 1",
            ),
            (
                "workers: [1]",
                "3:70: a list cannot be `workers`; expected a mapping with `count`, `affinity`",
            ),
            (
                "workers: 1025",
                "3:70: `1025` workers are too many; expected at most 1024",
            ),
            (
                "steer: {ports: [1]}, workers: {count: 65}",
                "3:99: `65` workers are too many; expected at most 64 with `steer`",
            ),
            (
                "workers: {affinity: some}",
                "3:81: `some` is unknown; expected `on` or `off`",
            ),
        ] {
            assert_told(&written(text), message);
        }
        policy(&written(
            "steer: {mode: off, ports: [1]}, workers: {count: 65}",
        ));
    }
}
