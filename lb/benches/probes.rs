//! How evenly the probes of 10,000 upstreams are spread, and what share of a processor they take.
//!
//! `cargo bench -p lb --bench probes`. 100 groups of 100 upstreams each, which are 100 listeners on
//! loopback; after the first two intervals the probes of three are counted, by tenths of a second.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures"
)]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use lb::{GroupConfig, HealthConfig, LoadBalancer, LoadBalancerConfig, ProbeKind, UpstreamConfig};

const GROUPS: usize = 100;
const UPSTREAMS: usize = 100;
const INTERVAL: Duration = Duration::from_secs(5);
const TENTH: Duration = Duration::from_millis(100);
const BEFORE: Duration = INTERVAL.saturating_mul(2);
const COUNTED: Duration = INTERVAL.saturating_mul(3);

/// Processor time that this thread has used.
fn used() -> Duration {
    let mut text = String::new();
    let mut file = std::fs::File::open("/proc/thread-self/schedstat").expect("Linux");
    file.read_to_string(&mut text).expect("a text");
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Accepts and closes, and counts in which tenth of a second.
fn listen(begun: Instant, tenths: &Arc<Vec<AtomicU32>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let tenths = Arc::clone(tenths);
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            drop(socket);
            let tenth = begun.elapsed().as_millis() / TENTH.as_millis();
            let Some(count) = usize::try_from(tenth).ok().and_then(|one| tenths.get(one)) else {
                return;
            };
            count.fetch_add(1, Relaxed);
        }
    });
    address
}

fn main() {
    let begun = Instant::now();
    let count = (BEFORE + COUNTED).as_millis() / TENTH.as_millis();
    let tenths: Arc<Vec<AtomicU32>> = Arc::new((0..count).map(|_| AtomicU32::new(0)).collect());
    let upstreams: Vec<_> = (0..UPSTREAMS)
        .map(|_| UpstreamConfig::new(listen(begun, &tenths)))
        .collect();
    let health = HealthConfig {
        check: ProbeKind::Tcp,
        interval: INTERVAL,
        ..HealthConfig::default()
    };
    let groups = (0..GROUPS)
        .map(|n| GroupConfig {
            health: health.clone(),
            ..GroupConfig::new(format!("group-{n}"), upstreams.clone())
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let share = runtime.block_on(async {
        let balancer = LoadBalancer::new(LoadBalancerConfig {
            groups,
            ..LoadBalancerConfig::default()
        })
        .expect("it is as usual");
        balancer.start().expect("it is as usual");
        tokio::time::sleep_until((begun + BEFORE).into()).await;
        let before = used();
        tokio::time::sleep_until((begun + BEFORE + COUNTED).into()).await;
        used().saturating_sub(before).as_secs_f64() / COUNTED.as_secs_f64()
    });
    let first = usize::try_from(BEFORE.as_millis() / TENTH.as_millis()).expect("it is small");
    let mut counted: Vec<u32> = tenths[first..]
        .iter()
        .map(|one| one.load(Relaxed))
        .collect();
    counted.sort_unstable();
    let all: u32 = counted.iter().sum();
    println!(
        "{} upstreams, one probe each in {INTERVAL:?}: {:.0} a second",
        GROUPS * UPSTREAMS,
        f64::from(all) / COUNTED.as_secs_f64(),
    );
    println!(
        "in a tenth of a second: {} at least, {} at the median, {} at most",
        counted[0],
        counted[counted.len() / 2],
        counted[counted.len() - 1],
    );
    println!("{:.1} % of one processor", share * 100.0);
}
