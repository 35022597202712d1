//! Gateways that follow each other, stand by, or hand over.

use ebpf::{PortBinding, Role, RoleHolder, RoleOrigin, SteerError, Steering};

use super::{Instance, connect, group, refused, serve, serve_as};

#[test]
#[ignore = "kernel.sh runs it as root"]
fn the_next_gateway_takes_over_what_a_killed_one_left() {
    let instance = Instance::loaded("next");
    let (mut first, listeners, handle) = serve(&instance, 2);
    first
        .apply([PortBinding::Port(7001), PortBinding::Port(7002)].into())
        .unwrap();

    let (rivals, rival) = group(1, 0);
    let mut second = Steering::open(&instance.0, Role::Primary).unwrap();
    let error = second
        .serve(&[&rivals[0]], &rival, RoleOrigin::Fresh)
        .unwrap_err();
    assert!(matches!(error, SteerError::Taken { .. }), "{error}");

    drop((listeners, handle, first));
    second
        .serve(&[&rivals[0]], &rival, RoleOrigin::Fresh)
        .unwrap();
    let applied = second.apply([PortBinding::Port(7002)].into()).unwrap();
    assert_eq!((applied.added, applied.removed), (0, 1));
    refused("127.0.0.1:7001");
    connect("127.0.0.1:7002").unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_standby_serves_while_there_is_no_primary_and_what_waited_moves_to_it() {
    let instance = Instance::loaded("standby");
    let (mut primary, listeners, handle) = serve(&instance, 2);
    primary.apply([PortBinding::Port(7007)].into()).unwrap();
    let (mut standby, others, _other) = serve_as(Role::Standby, &instance, 2);
    for listener in &others {
        listener.set_nonblocking(true).unwrap();
    }
    let accepted = || {
        let all = others
            .iter()
            .map(|listener| std::iter::from_fn(|| listener.accept().ok()).count());
        all.sum::<usize>()
    };

    let waiting: Vec<_> = (0..40)
        .map(|_| connect("127.0.0.1:7007").unwrap())
        .collect();
    assert_eq!(accepted(), 0, "the primary has them all");
    drop((primary, listeners, handle));
    let late = connect("[::1]:7007").unwrap();
    assert_eq!(accepted(), 41);
    drop((waiting, late));

    let (_primary, listeners, _handle) = serve(&instance, 1);
    connect("127.0.0.1:7007").unwrap();
    listeners[0].accept().unwrap();
    assert_eq!(accepted(), 0, "the primary is back");
    standby.retire().unwrap();
    assert!(!standby.has_standby().unwrap());
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_process_that_was_given_the_role_and_failed_has_changed_nothing() {
    let instance = Instance::loaded("given");
    let (mut first, listeners, handle) = serve(&instance, 2);
    let rules = [PortBinding::Port(7010)];
    first.apply(rules.into()).unwrap();

    first.release();
    let given = (
        listeners[0].try_clone().unwrap(),
        handle.try_clone().unwrap(),
    );
    let mut second = Steering::open(&instance.0, Role::Primary).unwrap();
    second
        .serve(&[&given.0], &given.1, RoleOrigin::Inherited)
        .unwrap();
    second.apply([PortBinding::Port(7011)].into()).unwrap();
    refused("127.0.0.1:7010");
    drop((second, given));

    first.restore().unwrap();
    first.apply(rules.into()).unwrap();
    refused("127.0.0.1:7011");
    let _waiting: Vec<_> = (0..40)
        .map(|_| connect("127.0.0.1:7010").unwrap())
        .collect();
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
        let accepted = std::iter::from_fn(|| listener.accept().ok()).count();
        assert_eq!(accepted, 20, "both workers serve again");
    }
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn whoever_has_a_role_is_named_from_its_start_until_it_retires() {
    let instance = Instance::loaded("holder");
    let holder = |role| RoleHolder::of(&instance.0, role).unwrap();
    assert_eq!(holder(Role::Primary), RoleHolder::Nobody);
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    let named = holder(Role::Primary);
    let own = std::process::id();
    assert!(matches!(named, RoleHolder::Process { pid, .. } if pid == own));
    assert_eq!(holder(Role::Standby), RoleHolder::Nobody);
    steering.release();
    steering.restore().unwrap();
    assert_eq!(holder(Role::Primary), named);
    steering.retire().unwrap();
    assert_eq!(holder(Role::Primary), RoleHolder::Nobody);
}
