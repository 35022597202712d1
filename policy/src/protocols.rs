//! Application protocols (ALPN) that a client may choose from, before its identity is known.

use crate::policy::Policy;

impl Policy {
    /// Returns the application protocols of a destination: those of its group. An empty list means
    /// that no protocol is agreed on.
    ///
    /// A destination without a group has the list of one of the existing groups, so that the answer
    /// does not reveal whether a group exists: among the different lists of all groups, the one
    /// with the highest `rank`. Lists are ranked in no particular order, and each once.
    pub fn protocols(
        &self,
        sni: Option<&str>,
        port: u16,
        rank: impl Fn(&[Vec<u8>]) -> u64,
    ) -> &[Vec<u8>] {
        // Computed in any case, so that names with a group take as long as names without one.
        let imitated = if self.protocols.len() > 1 {
            self.protocols.keys().max_by_key(|list| rank(list))
        } else {
            self.protocols.keys().next()
        };
        match self.leads_to(sni, port) {
            Some(group) => &group.alpn,
            None => imitated.map_or(&[], |list| list),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::test_support::{policy, with};

    const GROUPS: &str = "groups:
  plain: {sni: [plain, '*.plain'], upstreams: ['10.0.0.1:1']}
  web: {alpn: [h2, http/1.1], upstreams: ['10.0.0.1:1']}
  other: {alpn: [h2, http/1.1], upstreams: ['10.0.0.1:1']}
  db: {alpn: [postgresql], ports: [5432], upstreams: ['10.0.0.1:1']}
clients:
  one: {groups: [web]}
";

    #[test]
    fn a_group_that_there_is_has_its_own_protocols() {
        let policy = policy(&with(GROUPS));
        for (sni, port, expected) in [
            (Some("plain"), 1, vec![]),
            (Some("a.plain."), 1, vec![]),
            (Some("WEB"), 1, vec!["h2", "http/1.1"]),
            (Some("db"), 1, vec!["postgresql"]),
            (None, 5432, vec!["postgresql"]),
        ] {
            let expected: Vec<_> = expected.iter().map(|one| one.as_bytes().to_vec()).collect();
            for favourite in 0..4 {
                let rank = |list: &[Vec<u8>]| u64::from(list.len() == favourite);
                assert_eq!(policy.protocols(sni, port, rank), expected, "{sni:?}");
            }
        }
    }

    #[test]
    fn a_destination_without_a_group_has_the_protocols_of_some_group() {
        let policy = policy(&with(GROUPS));
        for (sni, port) in [(Some("nowhere"), 1), (Some("plain.test"), 5432), (None, 1)] {
            for favourite in 0..3 {
                let rank = |list: &[Vec<u8>]| u64::from(list.len() == favourite);
                assert_eq!(policy.protocols(sni, port, rank).len(), favourite);
            }
        }
    }
}
