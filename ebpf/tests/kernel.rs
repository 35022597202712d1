//! What the kernel does with the programs. `ebpf/tests/kernel.sh` runs this as root in a network
//! namespace of its own; it needs a bpffs at `PORTCULLIS_BPFFS`.
#![cfg(test)]

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map};
use ebpf::{
    AttachmentState, BanTable, Counters, IpPrefix, PinDir, PinOwner, PortBinding, Role, RoleHolder,
    RoleOrigin, SteerError, Steering,
};
use socket2::{Domain, Socket, Type};

/// An instance that is unloaded at the end.
struct Instance(PinDir);

impl Instance {
    fn new(name: &str) -> Self {
        let bpffs = PathBuf::from(std::env::var_os("PORTCULLIS_BPFFS").expect("run kernel.sh"));
        Self(PinDir::new(&bpffs, name).unwrap())
    }

    fn loaded(name: &str) -> Self {
        let instance = Self::new(name);
        ebpf::load(&instance.0, None).unwrap();
        instance
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        ebpf::unload(&self.0).ok();
    }
}

/// Listeners of one group: one for each worker, and the handle.
fn group(workers: usize, port: u16) -> (Vec<TcpListener>, TcpListener) {
    let mut address: SocketAddr = "[::ffff:127.0.0.1]:0".parse().unwrap();
    address.set_port(port);
    let mut listeners = Vec::new();
    for _ in 0..=workers {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(4096).unwrap();
        let listener = TcpListener::from(socket);
        address = listener.local_addr().unwrap();
        listeners.push(listener);
    }
    let handle = listeners.pop().unwrap();
    (listeners, handle)
}

fn serve(instance: &Instance, workers: usize) -> (Steering, Vec<TcpListener>, TcpListener) {
    serve_as(Role::Primary, instance, workers)
}

fn serve_as(
    role: Role,
    instance: &Instance,
    workers: usize,
) -> (Steering, Vec<TcpListener>, TcpListener) {
    let mut steering = Steering::open(&instance.0, role).unwrap();
    let (listeners, handle) = group(workers, steering.group().unwrap().unwrap_or(0));
    let all: Vec<&TcpListener> = listeners.iter().collect();
    steering.serve(&all, &handle, RoleOrigin::Fresh).unwrap();
    (steering, listeners, handle)
}

fn at(port: u16, address: &str, length: u8) -> PortBinding {
    PortBinding::At(port, IpPrefix::new(address.parse().unwrap(), length))
}

fn connect(address: &str) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5))
}

#[track_caller]
fn refused(address: &str) {
    let error = connect(address).expect_err(address);
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}");
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn rules_steer_their_destinations_and_nothing_else() {
    let instance = Instance::loaded("rules");
    let (mut steering, listeners, _handle) = serve(&instance, 1);
    refused("127.0.0.1:5432");
    let rules = [
        PortBinding::Port(5432),
        at(443, "192.0.2.0", 24),
        at(443, "2001:db8::", 32),
    ];
    let applied = steering.apply(rules.into()).unwrap();
    assert_eq!((applied.added, applied.removed), (3, 0));
    assert_eq!(Steering::bindings(&instance.0).unwrap(), rules.into());

    for address in [
        "127.0.0.1:5432",
        "[::1]:5432",
        "192.0.2.1:443",
        "[2001:db8::1]:443",
    ] {
        let client = connect(address).expect(address);
        let (server, peer) = listeners[0].accept().unwrap();
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        assert_eq!(plain(peer), plain(client.local_addr().unwrap()));
        let destination = plain(server.local_addr().unwrap());
        assert_eq!(
            destination,
            plain(address.parse().unwrap()),
            "it is still to be seen"
        );
    }
    refused("127.0.0.1:443");
    refused("[::1]:443");
    refused("192.0.2.1:444");

    let applied = steering.apply([PortBinding::Port(5432)].into()).unwrap();
    assert_eq!((applied.added, applied.removed), (0, 2));
    refused("192.0.2.1:443");
    connect("192.0.2.1:5432").unwrap();

    steering.retire().unwrap();
    refused("127.0.0.1:5432");
    let counters = Steering::counters(&instance.0).unwrap();
    let of = |port| {
        counters
            .iter()
            .find(|(counted, _)| *counted == port)
            .unwrap()
            .1
    };
    assert_eq!((of(5432).steered, of(5432).unserved), (3, 1));
    assert_eq!((of(443).steered, of(443).unserved), (2, 0));
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn what_is_steered_is_nobody_elses_while_no_gateway_serves() {
    let instance = Instance::loaded("closed");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let (mut steering, listeners, handle) = serve(&instance, 1);
    steering
        .apply([PortBinding::Port(address.port())].into())
        .unwrap();
    connect(&address.to_string()).unwrap();
    listeners[0].accept().unwrap();

    // As a process that is killed leaves it.
    drop((listeners, handle, steering));
    refused(&address.to_string());

    ebpf::unload(&instance.0).unwrap();
    connect(&address.to_string()).unwrap();
    other.accept().unwrap();
}

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
fn loading_again_exchanges_the_program_and_keeps_the_rest() {
    let instance = Instance::loaded("again");
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(7003)].into()).unwrap();
    let mut connected = 0;
    for _ in 0..20 {
        ebpf::load(&instance.0, None).unwrap();
        for _ in 0..20 {
            connect("127.0.0.1:7003").unwrap();
            connected += 1;
        }
    }
    let counters = Steering::counters(&instance.0).unwrap();
    assert_eq!(counters[0].1.steered, connected);
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn another_instance_at_the_hook_is_told_of() {
    let first = Instance::loaded("first");
    let second = Instance::new("second");
    assert_eq!(ebpf::load(&second.0, None).unwrap().len(), 1);
    drop(first);
    assert_eq!(ebpf::load(&second.0, None).unwrap().len(), 0);
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_pin_of_other_sizes_is_refused_and_left_alone() {
    let instance = Instance::new("other");
    std::fs::create_dir_all(instance.0.path()).unwrap();
    let foreign = HashMap::<_, u64, u64>::create(16, 0).unwrap();
    let pin = instance.0.path().join("PORTS");
    foreign.pin(&pin).unwrap();
    let error = ebpf::load(&instance.0, None).unwrap_err();
    assert!(matches!(error, SteerError::Incompatible { .. }), "{error}");
    let error = Steering::open(&instance.0, Role::Primary).unwrap_err();
    assert!(matches!(error, SteerError::Incompatible { .. }), "{error}");
    assert!(pin.exists());
    let map = Map::HashMap(aya::maps::MapData::from_pin(&pin).unwrap());
    HashMap::<_, u64, u64>::try_from(map).unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn twenty_thousand_rules_are_one_call() {
    let instance = Instance::loaded("many");
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    let ports = |range: std::ops::Range<u16>| range.map(PortBinding::Port).collect::<BTreeSet<_>>();
    for (what, rules) in [
        ("20,000 ports added", ports(10_000..30_000)),
        ("20,000 ports changed for others", ports(30_000..50_000)),
        ("one port added", ports(30_000..50_001)),
    ] {
        let begin = Instant::now();
        let applied = steering.apply(rules.clone()).unwrap();
        println!("{what}: {applied:?} in {:.1?}", begin.elapsed());
        assert_eq!(Steering::bindings(&instance.0).unwrap(), rules);
    }
    refused("127.0.0.1:10000");
    connect("127.0.0.1:50000").unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn the_least_busy_worker_gets_the_next_connection() {
    let instance = Instance::loaded("least");
    let (mut steering, listeners, _handle) = serve(&instance, 4);
    steering.apply([PortBinding::Port(7004)].into()).unwrap();
    let loads = steering.loads();
    let mut held = Vec::new();
    let mut connect_one = || {
        held.push(connect("127.0.0.1:7004").unwrap());
    };
    let mut take = |worker: usize| {
        let taken = listeners[worker].accept().unwrap();
        loads.increment(worker);
        loads.reset_chosen(worker);
        taken
    };

    // All at once, before anybody accepts: still one each.
    (0..4).for_each(|_| connect_one());
    let mut taken: Vec<_> = (0..4).map(&mut take).collect();
    // One that ends makes room with its worker.
    drop(taken.remove(2));
    loads.decrement(2);
    connect_one();
    taken.push(take(2));
    assert_eq!([0, 1, 2, 3].map(|worker| loads.open(worker)), [1; 4]);
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_worker_that_is_gone_gets_nothing_and_what_waited_for_it_moves() {
    let instance = Instance::loaded("gone");
    let (mut steering, mut listeners, _handle) = serve(&instance, 2);
    steering.apply([PortBinding::Port(7005)].into()).unwrap();
    let clients: Vec<_> = (0..10)
        .map(|_| connect("127.0.0.1:7005").unwrap())
        .collect();

    drop(listeners.remove(0));
    let late = connect("127.0.0.1:7005").unwrap();
    let served: Vec<_> = (0..11).map(|_| listeners[0].accept().unwrap()).collect();
    drop(served);
    for mut client in clients.into_iter().chain([late]) {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed, not reset");
    }
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_banned_source_is_refused_until_its_time_is_over() {
    let instance = Instance::loaded("bans");
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(7006)].into()).unwrap();
    let bans = BanTable::open(&instance.0).unwrap();
    let hour = Duration::from_hours(1);
    bans.ban("192.0.2.1".parse().unwrap(), hour).unwrap();
    bans.ban("2001:db8::9".parse().unwrap(), hour).unwrap();

    // On loopback the source is the destination's address.
    connect("127.0.0.1:7006").unwrap();
    refused("192.0.2.1:7006");
    refused("[2001:db8::1]:7006");
    let counters = Steering::counters(&instance.0).unwrap()[0].1;
    let Counters {
        steered,
        unserved,
        banned,
    } = counters;
    assert_eq!((steered, unserved, banned), (1, 0, 2));
    let all = bans.all().unwrap();
    let banned: Vec<_> = all.iter().map(|(source, _)| source.to_string()).collect();
    assert_eq!(banned, ["192.0.2.1", "2001:db8::"]);

    let neighbour = "2001:db8::5".parse().unwrap();
    assert!(bans.lift(neighbour).unwrap(), "of the same 64 bits");
    assert!(!bans.lift(neighbour).unwrap());
    connect("[2001:db8::1]:7006").unwrap();

    let short = Duration::from_millis(300);
    let begin = Instant::now();
    bans.ban("192.0.2.1".parse().unwrap(), short).unwrap();
    while connect("192.0.2.1:7006").is_err() {
        assert!(begin.elapsed() < Duration::from_secs(5), "it does not end");
    }
    assert!(begin.elapsed() >= short, "{:?}", begin.elapsed());
    assert!(bans.all().unwrap().is_empty());
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
fn a_folder_that_somebody_else_made_first_is_not_loaded_into() {
    let instance = Instance::new("theirs");
    let folder = instance.0.path();
    std::fs::create_dir_all(folder).unwrap();
    for path in [folder, folder.parent().unwrap()] {
        let give = |user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
        give(1234);
        let refused = ebpf::load(&instance.0, None).unwrap_err();
        assert!(
            matches!(&refused, SteerError::Unsafe { user: 1234, .. }),
            "{refused}"
        );
        assert!(Steering::open(&instance.0, Role::Primary).is_err());
        give(0);
    }
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(folder, mode).unwrap();
    };
    mode(0o777);
    let refused = ebpf::load(&instance.0, None).unwrap_err();
    assert!(matches!(refused, SteerError::Unsafe { .. }), "{refused}");
    mode(0o755);
    ebpf::load(&instance.0, None).unwrap();
}

#[test]
#[ignore = "kernel.sh runs it as root"]
fn a_link_that_is_gone_is_told_and_made_again() {
    let instance = Instance::new("link");
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Nowhere
    );
    ebpf::load(&instance.0, None).unwrap();
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Here
    );
    std::fs::remove_file(instance.0.path().join("link")).unwrap();
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Nowhere
    );
    ebpf::load(&instance.0, None).unwrap();
    assert_eq!(
        AttachmentState::of(&instance.0).unwrap(),
        AttachmentState::Here
    );
    let (mut steering, _listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(5432)].into()).unwrap();
    connect("127.0.0.1:5432").unwrap();
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

#[test]
#[ignore = "kernel.sh runs it as root"]
fn what_an_earlier_version_loaded_serves_and_is_completed_for_its_own_user() {
    let instance = Instance::new("earlier");
    let (user, group) = (1234, 5678);
    ebpf::load(&instance.0, Some(PinOwner { user, group })).unwrap();
    let pin = instance.0.path().join("PROCESSES");
    std::fs::remove_file(&pin).unwrap();
    let (mut steering, listeners, _handle) = serve(&instance, 1);
    steering.apply([PortBinding::Port(7012)].into()).unwrap();
    connect("127.0.0.1:7012").unwrap();
    listeners[0].accept().unwrap();
    let holder = RoleHolder::of(&instance.0, Role::Primary).unwrap();
    assert_eq!(holder, RoleHolder::Unknown);

    ebpf::load(&instance.0, None).unwrap();
    let made = std::fs::metadata(pin).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&made);
    assert_eq!(owner, user);
}
