//! The keys that are read, by where they stand.

pub(super) const DOCUMENT: &[&str] = &["version", "gateway", "groups", "clients", "tests"];
pub(super) const GATEWAY: &[&str] = &[
    "listen",
    "tls",
    "steer",
    "ban",
    "admin",
    "limits",
    "timeouts",
    "on_revoke",
];
pub(super) const BAN: &[&str] = &["failures", "within", "for", "never"];
pub(super) const ADMIN: &[&str] = &["socket"];
pub(super) const STEER: &[&str] = &["mode", "ports", "addresses"];
pub(super) const TLS: &[&str] = &["certificate", "key", "client_ca", "crl", "expired_crl"];
pub(super) const LIMITS: &[&str] = &[
    "connections",
    "silent",
    "handshakes",
    "handshakes_per_source",
    "memory",
];
pub(super) const TIMEOUTS: &[&str] = &[
    "handshake",
    "connect",
    "idle",
    "half_closed",
    "stall",
    "keepalive",
    "lifetime",
    "lifetime_jitter",
    "drain",
];
pub(super) const GROUP: &[&str] = &[
    "sni",
    "ports",
    "upstreams",
    "health",
    "proxy_protocol",
    "alpn",
    "max_connections",
    "when_all_down",
    "timeouts",
    "tries",
];
pub(super) const UPSTREAM: &[&str] = &["address", "weight", "backup", "state"];
pub(super) const HEALTH: &[&str] = &[
    "check", "sni", "interval", "timeout", "rise", "fall", "jitter", "on_down",
];
pub(super) const SEND_EXPECT: &[&str] = &["send", "expect"];
pub(super) const GROUP_TIMEOUTS: &[&str] = &[
    "connect",
    "idle",
    "half_closed",
    "stall",
    "keepalive",
    "lifetime",
];
pub(super) const CLIENT: &[&str] = &["groups", "max_connections", "rate"];
pub(super) const TEST: &[&str] = &["client", "sni", "port", "expect", "group"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::schema;

    #[test]
    fn the_schema_knows_the_keys_that_are_read_and_describes_each() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let known = |place: &serde_json::Value| -> BTreeSet<String> {
            let properties = place["properties"].as_object().unwrap();
            for (key, property) in properties {
                assert!(
                    property["description"].is_string(),
                    "{key} has no description"
                );
            }
            properties.keys().cloned().collect()
        };
        let set = |keys: &[&str]| {
            keys.iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(known(&schema), set(DOCUMENT));
        for (name, keys) in [
            ("Gateway", GATEWAY),
            ("Tls", TLS),
            ("Steer", STEER),
            ("Ban", BAN),
            ("Admin", ADMIN),
            ("Limits", LIMITS),
            ("Timeouts", TIMEOUTS),
            ("Group", GROUP),
            ("Upstream", UPSTREAM),
            ("Health", HEALTH),
            ("SendExpect", SEND_EXPECT),
            ("GroupTimeouts", GROUP_TIMEOUTS),
            ("Client", CLIENT),
            ("Test", TEST),
        ] {
            assert_eq!(known(&schema["definitions"][name]), set(keys), "{name}");
        }
    }

    #[test]
    fn the_committed_schema_is_current() {
        let committed = include_str!("../../schema/policy.schema.json");
        assert!(
            committed == schema(),
            "run `portcullis schema > server/schema/policy.schema.json`"
        );
    }
}
