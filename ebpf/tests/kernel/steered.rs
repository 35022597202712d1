//! Where the kernel sends connections.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use ebpf::{BanTable, Counters, PortBinding, Steering};

use super::{Instance, at, connect, refused, serve};

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
