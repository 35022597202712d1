//! The steering programs: read what the kernel knows, ask `ebpf-common` what to do, do it.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the target has no atomic types that add")]

use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr::read_volatile;

use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, sk_lookup, sk_reuseport};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{
    Array, HashMap, LpmTrie, LruHashMap, PerCpuHashMap, ReusePortSockArray, SockMap,
};
use aya_ebpf::programs::{SkLookupContext, SkReuseportContext};
use ebpf_common::{
    Arrival, Counters, Destination, Loads, MOST_WORKERS, PORT_BITS, ROLES, RoleEntry, Source, Tables, Verdict,
    index, least, nth, slot, verdict,
};

/// Ports that are the gateway's at every address.
#[map]
static PORTS: HashMap<u16, u8> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
/// Ports that are the gateway's at some addresses.
#[map]
static PREFIXES: LpmTrie<Destination, u8> = LpmTrie::with_max_entries(1 << 20, 0);
/// Who is banned, and until when, in nanoseconds of the monotonic clock. The ban of whoever came least
/// recently gives way to a new one.
#[map]
static BANS: LruHashMap<Source, u64> = LruHashMap::with_max_entries(65_536, 0);
/// What came to each port.
#[map]
static COUNTERS: PerCpuHashMap<u16, Counters> =
    PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
/// A listener of each process, by whose means its group is found. A socket that is closed is gone.
#[map]
static HANDLES: SockMap = SockMap::with_max_entries(ROLES, 0);
/// The workers' listeners.
#[map]
static LISTENERS: ReusePortSockArray =
    ReusePortSockArray::with_max_entries(ROLES * MOST_WORKERS, 0);
/// How busy the workers of each process are.
#[map]
static LOADS: Array<Loads> = Array::with_max_entries(ROLES, BPF_F_MMAPABLE);
/// How many workers each process has.
#[map]
static WORKERS: Array<u32> = Array::with_max_entries(ROLES, 0);
/// The port that the group listens on, for a process that joins it. Nothing here reads it.
#[map]
static GROUP: Array<u32> = Array::with_max_entries(1, 0);
/// Which process has which role, for whoever looks. Nothing here reads it.
#[map]
static PROCESSES: Array<RoleEntry> = Array::with_max_entries(ROLES, 0);
/// Whose turn it is among equals.
#[map]
static TURN: Array<u64> = Array::with_max_entries(1, 0);

struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn has_port(&self, port: u16) -> bool {
        // SAFETY: the entry is only asked for; nothing reads it.
        unsafe { PORTS.get(port) }.is_some()
    }

    #[inline(always)]
    fn has_destination(&self, destination: &Destination) -> bool {
        PREFIXES
            .get(Key::new(PORT_BITS + 128, *destination))
            .is_some()
    }

    #[inline(always)]
    fn is_banned(&self, source: &Source) -> bool {
        // SAFETY: the value is eight aligned bytes, which are read at once.
        let until = unsafe { BANS.get(source).copied() };
        // SAFETY: the helper has no preconditions.
        until.is_some_and(|until| unsafe { bpf_ktime_get_ns() } < until)
    }
}

/// Hands connections to steered ports to the gateway's listeners.
#[sk_lookup]
pub fn steer(context: SkLookupContext) -> u32 {
    let arrival = arrival(&context);
    match verdict(&Maps, &arrival) {
        Verdict::Pass => return SK_PASS,
        Verdict::Steer => {}
        Verdict::Refuse => {
            count(arrival.port, |counters| counters.banned += 1);
            return SK_DROP;
        }
    }
    // What is steered is the gateway's or nobody's: another listener on the port gets nothing, also
    // while there is no gateway.
    let found = (0..ROLES).any(|role| HANDLES.redirect_sk_lookup(&context, role, 0).is_ok());
    if found {
        count(arrival.port, |counters| counters.steered += 1);
        SK_PASS
    } else {
        count(arrival.port, |counters| counters.unserved += 1);
        SK_DROP
    }
}

#[inline(always)]
fn arrival(context: &SkLookupContext) -> Arrival {
    let lookup = context.lookup;
    // Every field is read before any is looked at: the verifier refuses pointers into the context
    // that depend on a branch.
    // SAFETY: the kernel passes a valid context, and each field is read as wide as it is.
    let (family, protocol, source4, source6, ip4, ip6, port) = unsafe {
        (
            read_volatile(&raw const (*lookup).family),
            read_volatile(&raw const (*lookup).protocol),
            read_volatile(&raw const (*lookup).remote_ip4),
            [
                read_volatile(&raw const (*lookup).remote_ip6[0]),
                read_volatile(&raw const (*lookup).remote_ip6[1]),
                read_volatile(&raw const (*lookup).remote_ip6[2]),
                read_volatile(&raw const (*lookup).remote_ip6[3]),
            ],
            read_volatile(&raw const (*lookup).local_ip4),
            [
                read_volatile(&raw const (*lookup).local_ip6[0]),
                read_volatile(&raw const (*lookup).local_ip6[1]),
                read_volatile(&raw const (*lookup).local_ip6[2]),
                read_volatile(&raw const (*lookup).local_ip6[3]),
            ],
            read_volatile(&raw const (*lookup).local_port),
        )
    };
    Arrival {
        family,
        protocol,
        ip4: ip4.to_ne_bytes(),
        ip6: bytes(ip6),
        port: port as u16,
        source4: source4.to_ne_bytes(),
        source6: bytes(source6),
    }
}

#[inline(always)]
fn bytes(words: [u32; 4]) -> [u8; 16] {
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = words.map(u32::to_ne_bytes);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[inline(always)]
fn count(port: u16, add: impl Fn(&mut Counters)) {
    let counters = match COUNTERS.get_ptr_mut(port) {
        Some(counters) => counters,
        None => {
            // Another processor may have been faster, which is as good.
            let _ = COUNTERS.insert(port, Counters::default(), u64::from(BPF_NOEXIST));
            let Some(counters) = COUNTERS.get_ptr_mut(port) else {
                return;
            };
            counters
        }
    };
    // SAFETY: the entry is this processor's own, and entries are never removed while it runs.
    add(unsafe { &mut *counters });
}

/// Gives a connection to the least busy worker of the primary, or else of the process that stands by.
#[sk_reuseport(migrate)]
pub fn choose(context: SkReuseportContext) -> u32 {
    let turn = turn();
    if (0..ROLES).any(|role| choose_of(&context, role, turn)) {
        SK_PASS
    } else {
        SK_DROP
    }
}

#[inline(always)]
fn choose_of(context: &SkReuseportContext, role: u32, turn: u32) -> bool {
    let workers = WORKERS.get(role).copied().unwrap_or(0);
    let Some(loads) = LOADS.get_ptr_mut(role) else {
        return false;
    };
    // SAFETY: the entry is there for ever. Its numbers change at any time, and any of them will do.
    let least = least(workers, turn, unsafe { &*loads });
    if let Some(worker) = least
        && give(context, role, worker, loads)
    {
        return true;
    }
    // That worker is gone: any other will do.
    for step in 0..MOST_WORKERS {
        if step >= workers {
            break;
        }
        if give(context, role, nth(workers, turn, step), loads) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn give(context: &SkReuseportContext, role: u32, worker: u32, loads: *mut Loads) -> bool {
    let given = LISTENERS
        .select_reuseport(context, slot(role, worker))
        .is_ok();
    if given {
        // SAFETY: the entry is there for ever, and the index is in bounds.
        add_one(unsafe { &raw mut (*loads)[index(worker)].chosen });
    }
    given
}

#[inline(always)]
fn turn() -> u32 {
    TURN.get_ptr_mut(0).map_or(0, add_one) as u32
}

/// Adds atomically, and returns what was there before.
#[inline(always)]
fn add_one(number: *mut u64) -> u64 {
    // SAFETY: callers point at an entry of an array, which is aligned and never freed.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, 1) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
