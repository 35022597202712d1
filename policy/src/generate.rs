//! Generates large policies for measurements.

use std::fmt::Write;

/// Returns the text of a policy with these numbers of groups and clients, all different. Clients
/// are assigned to groups in turn; without groups there are no clients.
///
/// # Examples
///
/// ```
/// use policy::{Policy, generate};
///
/// let policy = Policy::parse("large.yaml", &generate(100, 1_000))?;
/// assert_eq!(policy.clients().count(), 1_000);
/// # Ok::<(), policy::PolicyError>(())
/// ```
pub fn generate(groups: usize, clients: usize) -> String {
    let mut text = String::from(
        "version: 1
gateway:
  listen: [\"127.0.0.1:8443\"]
  tls: {certificate: certs/server.crt, key: certs/server.key, client_ca: certs/ca.crt}
",
    );
    text.push_str(if groups == 0 {
        "groups: {}\n"
    } else {
        "groups:\n"
    });
    for n in 0..groups {
        let port = 1024 + n % 60_000;
        push(
            &mut text,
            format_args!(
                "  group-{n}: {{sni: [group-{n}.example.test], upstreams: [\"127.0.0.1:{port}\"], \
                 health: {{check: off}}}}\n"
            ),
        );
    }
    let none = groups == 0 || clients == 0;
    text.push_str(if none { "clients: {}\n" } else { "clients:\n" });
    for n in 0..if none { 0 } else { clients } {
        let (group, most) = (n % groups, 1 + n % 1000);
        push(
            &mut text,
            format_args!("  client-{n}: {{groups: [group-{group}], max_connections: {most}}}\n"),
        );
    }
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::policy;

    #[test]
    fn what_is_generated_is_a_policy_with_as_much_as_was_asked_for() {
        for (groups, clients) in [(0, 0), (1, 0), (3, 2), (100, 1_000)] {
            let policy = policy(&generate(groups, clients));
            assert_eq!(
                (policy.groups().count(), policy.clients().count()),
                (groups, clients)
            );
        }
    }
}
