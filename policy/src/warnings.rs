//! Warnings about a policy that is valid, but probably not as its author meant it.

use std::collections::HashSet;
use std::sync::Arc;

use crate::client::ClientPolicy;
use crate::expected_decision::PolicyTest;
use crate::policy::Policy;
use crate::positions::{PolicyKey, PolicyPositions};
use crate::problem::Problem;

/// Largest number of clients that are named because no test expects their grants; further ones are
/// counted.
const MOST_CLIENTS: usize = 20;
/// Largest number of groups that are named for one client.
const MOST_GROUPS: usize = 3;

impl Policy {
    /// Returns the line and the column of a key in the policy's file, both counted from 1; `None`
    /// if it is not written there.
    pub fn position(&self, key: PolicyKey) -> Option<(u32, u32)> {
        self.positions.of(key)
    }

    /// Returns the warnings about the policy itself, in the order of its file: `ban` without
    /// `steer`, and grants that none of the policy's tests expects, if it has tests.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.warnings.iter()
    }

    /// Notes the warnings about this policy, which was read from a file with these positions and
    /// tests. `clients` are its clients.
    pub(crate) fn warned(
        mut self,
        positions: PolicyPositions,
        clients: &[Arc<ClientPolicy>],
        tests: &[PolicyTest],
    ) -> Self {
        self.positions = positions;
        let mut warnings = untested(&self, clients, tests);
        if self.gateway.ban.is_some() && self.gateway.steer.is_none() {
            let message = "`ban` has no effect without `steer`: the kernel refuses sources only at \
                           steered ports; add `steer`, or remove `ban`";
            let at = self.position(PolicyKey::Ban).unwrap_or((1, 1));
            warnings.insert(0, Problem::new(at, message.to_owned()));
        }
        self.warnings = warnings.into();
        self
    }
}

/// Returns the warnings about clients with grants that no test expects; none if there are no tests.
fn untested(policy: &Policy, clients: &[Arc<ClientPolicy>], tests: &[PolicyTest]) -> Vec<Problem> {
    if tests.is_empty() {
        return Vec::new();
    }
    let tested: HashSet<(&str, Arc<str>)> = tests
        .iter()
        .filter_map(|test| test.tested_grant(policy))
        .collect();
    let mut clients: Vec<&Arc<ClientPolicy>> = clients
        .iter()
        .filter(|client| missing(client, &tested).next().is_some())
        .collect();
    clients.sort_by_key(|client| client.line.number());
    let mut warnings: Vec<Problem> = clients
        .iter()
        .take(MOST_CLIENTS)
        .map(|client| warning(client, policy, missing(client, &tested)))
        .collect();
    if let Some(next) = clients.get(MOST_CLIENTS) {
        let more = clients.len() - MOST_CLIENTS;
        let message = format!("and {more} more clients with grants that no test expects");
        warnings.push(Problem::new(next.line.position(), message));
    }
    warnings
}

/// Iterates over the grants of a client that are not in `tested`.
fn missing<'a>(
    client: &'a ClientPolicy,
    tested: &HashSet<(&str, Arc<str>)>,
) -> impl Iterator<Item = &'a Arc<str>> {
    let groups = client.groups.iter();
    groups.filter(|group| !tested.contains(&(client.name.as_str(), Arc::clone(group))))
}

fn warning<'a>(
    client: &ClientPolicy,
    policy: &Policy,
    missing: impl Iterator<Item = &'a Arc<str>>,
) -> Problem {
    let missing: Vec<&str> = missing.map(AsRef::as_ref).collect();
    let shown = missing[..missing.len().min(MOST_GROUPS)].join("`, `");
    let more = match missing.len().saturating_sub(MOST_GROUPS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let group = missing.first().and_then(|group| policy.group(group));
    let sni = group.and_then(|group| group.sni.first());
    let sni = sni.map(ToString::to_string).unwrap_or_default();
    let (name, sni) = (&client.name, sni.replace('*', "any"));
    let message = format!(
        "no test expects that client `{name}` may reach `{shown}`{more}; add `{{client: {name}, \
         sni: {sni}, expect: allow}}` to `tests`"
    );
    Problem::new(client.line.position(), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{policy, with};

    fn told(text: &str) -> Vec<String> {
        let policy = policy(text);
        let told = policy.warnings();
        told.map(
            |Problem {
                 line,
                 column,
                 message,
             }| format!("{line}:{column}: {message}"),
        )
        .collect()
    }

    const GROUPS: &str = "groups: {a: {upstreams: ['10.0.0.1:1']}, b: {sni: ['*.b'], upstreams: \
                          ['10.0.0.1:1']}}\n";

    #[test]
    fn a_ban_without_steering_is_told_where_it_stands() {
        let plain = with(&format!("{GROUPS}clients: {{}}\n"));
        assert_eq!(told(&plain), Vec::<String>::new());
        let ban = plain.replacen("ca.crt}}", "ca.crt}, ban: {failures: 5}}", 1);
        let said = told(&ban);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("3:61: `ban` has no effect without `steer`"),
            "{said:?}"
        );
        let both = ban.replacen("ban:", "steer: {ports: [443]}, ban:", 1);
        assert_eq!(told(&both), Vec::<String>::new());
    }

    #[test]
    fn grants_that_no_test_expects_are_told_if_there_are_tests() {
        let clients = "clients:\n  one: {groups: [a, b]}\n  two: {groups: [b]}\n";
        let text = with(&format!("{GROUPS}{clients}"));
        assert_eq!(told(&text), Vec::<String>::new(), "no tests at all");
        let with_tests = |tests: &str| told(&format!("{text}tests: [{tests}]\n"));
        let one_a = "{client: one, sni: a, expect: allow}";
        assert_eq!(
            with_tests(&format!("{one_a}, {{client: two, sni: a, expect: deny}}")),
            [
                "7:3: no test expects that client `one` may reach `b`; add `{client: one, sni: \
                 any.b, expect: allow}` to `tests`",
                "8:3: no test expects that client `two` may reach `b`; add `{client: two, sni: \
                 any.b, expect: allow}` to `tests`",
            ]
        );
        let all = format!(
            "{one_a}, {{client: one, sni: x.b, expect: allow}}, {{client: two, sni: y.b, expect: \
             allow, group: b}}"
        );
        assert_eq!(with_tests(&all), Vec::<String>::new());
    }

    #[test]
    fn many_clients_without_tests_are_counted() {
        let clients = (0..50).map(|n| format!("  c{n}: {{groups: [a, b]}}\n"));
        let clients: String = clients.collect();
        let tests = "tests: [{client: x, sni: a, expect: deny}]\n";
        let said = told(&with(&format!("{GROUPS}clients:\n{clients}{tests}")));
        assert_eq!(said.len(), MOST_CLIENTS + 1);
        assert!(said[0].contains("`c0` may reach `a`, `b`;"), "{}", said[0]);
        assert_eq!(
            said[MOST_CLIENTS],
            "27:3: and 30 more clients with grants that no test expects"
        );
    }

    #[test]
    fn warnings_are_those_of_the_policy_that_follows() {
        let plain = with(&format!("{GROUPS}clients: {{}}\n"));
        let ban = plain.replacen("ca.crt}}", "ca.crt}, ban: {failures: 5}}", 1);
        let (next, _) = policy(&plain).parse_next("p.yaml", &ban).unwrap();
        assert_eq!(next.warnings().count(), 1);
        let (back, _) = next.parse_next("p.yaml", &plain).unwrap();
        assert_eq!(back.warnings().count(), 0);
        assert_eq!(next.position(PolicyKey::Ban), Some((3, 61)));
        assert_eq!(back.position(PolicyKey::Ban), None);
    }
}
