//! How values are written, for the schema.

use schemars::JsonSchema;

/// A duration such as `500ms`, `5s`, `10m`, `1h` or `2d`.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) struct Duration(#[schemars(regex(pattern = "^[0-9]*[1-9][0-9]*(ms|s|m|h|d)$"))] String);

/// A duration such as `500ms`, `5s`, `10m`, `1h` or `2d`, or `unlimited`.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) struct DurationLimit(
    #[schemars(regex(pattern = "^([0-9]*[1-9][0-9]*(ms|s|m|h|d)|unlimited)$"))] String,
);

/// A share from `0%` to `100%`.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) struct Percent(#[schemars(regex(pattern = "^(100|[0-9]{1,2})%$"))] String);

/// A rate such as `5/s`, `300/m` or `1000/h`.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) struct Rate(#[schemars(regex(pattern = "^[0-9]*[1-9][0-9]*/(s|m|h)$"))] String);

/// A size such as `512MiB` or `4GiB`, or `unlimited`.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) struct Size(
    #[schemars(regex(pattern = "^([0-9]*[1-9][0-9]*(KiB|MiB|GiB)|unlimited)$"))] String,
);

/// A number from 1, or `unlimited`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) enum Quota {
    AtMost(#[schemars(range(min = 1))] u32),
    Word(Unlimited),
}

#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) enum Unlimited {
    Unlimited,
}

#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) enum PortOrRange {
    Port(#[schemars(range(min = 1))] u16),
    Range(#[schemars(regex(pattern = "^[0-9]{1,5}(-[0-9]{1,5})?$"))] String),
}
