//! Reads one of several words.

use super::text::scalar;
use crate::problem::{ProblemList, did_you_mean};
use policy_yaml::quote;
use policy_yaml::{YamlNode, YamlValue};

/// Reads one of several words and returns its value. `None` means that a problem was reported.
pub(crate) fn word<T: Copy>(
    node: &YamlNode<'_>,
    words: &[(&str, T)],
    problems: &mut ProblemList,
) -> Option<T> {
    let said = scalar(node, problems)?;
    // Tools that know only YAML 1.1 write `true` for `on`, and `false` for `off`.
    let is_flag =
        |flag| matches!(node.value, YamlValue::Flag(_)) && said.eq_ignore_ascii_case(flag);
    let meant = if is_flag("false") {
        "off"
    } else if is_flag("true") {
        "on"
    } else {
        said
    };
    let found = words.iter().find(|(word, _)| *word == meant);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(said, known.iter().copied());
        let known = known.join("` or `");
        problems.report(
            node.at,
            format!("{} is unknown; expected `{known}`{hint}", quote(said)),
        );
    }
    found.map(|(_, value)| *value)
}
