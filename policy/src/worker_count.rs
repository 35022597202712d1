//! Numbers of workers.

use std::num::NonZeroU32;

use serde_json::json;

use crate::fields::number;
use crate::format::kinds::ScalarFormat;
use crate::problem::ProblemList;
use policy_yaml::YamlNode;

/// Largest number of workers that a policy may ask for: more than machines have processors. With
/// steering it is [`MOST_STEERED_WORKERS`].
pub(crate) const MOST: u32 = 1024;

/// Largest number of workers that the kernel can steer to.
pub const MOST_STEERED_WORKERS: u32 = 64;

pub(crate) static WORKER_COUNT: ScalarFormat = ScalarFormat {
    name: "WorkerCount",
    types: &["number"],
    doc: "A number from 1 to 1024.",
    schema: || json!({"type": "integer", "minimum": 1, "maximum": MOST}),
};

/// Reads a number of workers, at most `most`: with steering, the kernel must be able to steer to
/// all of them.
pub(crate) fn count(
    node: &YamlNode<'_>,
    most: u32,
    problems: &mut ProblemList,
) -> Option<NonZeroU32> {
    let count = number::count(node, problems)?;
    if count.get() > most {
        let why = if most == MOST_STEERED_WORKERS {
            " with `steer`"
        } else {
            ""
        };
        problems.report(
            node.at,
            format!("`{count}` workers are too many; expected at most {most}{why}"),
        );
        return None;
    }
    Some(count)
}
