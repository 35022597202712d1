//! Whatever a policy's file holds, it is refused in words or it is a policy, and a policy that is
//! in force is led to it by difference.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use policy::{Policy, difference, explain};

static BEFORE: LazyLock<Policy> = LazyLock::new(|| {
    Policy::parse("before.yaml", include_str!("../../policy.yaml")).expect("a valid policy")
});

fuzz_target!(|text: &str| {
    let policy = match Policy::parse("fuzz.yaml", text) {
        Ok(policy) => policy,
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains("fuzz.yaml:"), "no place is named: {told}");
            return;
        }
    };

    assert!(policy.changes(&policy).is_empty(), "it differs from itself");
    assert!(difference(&policy, &policy).is_empty());
    leads(&BEFORE, &policy);
    leads(&policy, &BEFORE);
    for client in policy.clients() {
        for group in &client.groups {
            let name = explain(&policy, client.name.as_str(), Some(group), None).to_string();
            assert!(!name.is_empty());
        }
    }
});

fn leads(old: &Policy, new: &Policy) {
    let changes = old.changes(new);
    let applied = old.apply(&changes);
    assert!(applied == *new, "the changes lead elsewhere: {changes:#?}");
    assert_eq!(changes.is_empty(), old == new);
}
