//! What the kernel's half decides about any connection, beside the rules said in another way.
#![no_main]

use ebpf_common::{Arrival, Destination, Load, Loads, Source, Tables, Verdict, least, verdict};
use libfuzzer_sys::fuzz_target;

const TCP: u32 = 6;
const IPV4: u32 = 2;
const IPV6: u32 = 10;

/// Ports, and ports at addresses that are whole.
struct Rules<'r> {
    ports: &'r [u16],
    destinations: &'r [(u16, [u8; 16])],
    banned: bool,
}

impl Tables for Rules<'_> {
    fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    fn has_destination(&self, destination: &Destination) -> bool {
        self.destinations
            .iter()
            .any(|&(port, address)| Destination::new(port, address) == *destination)
    }

    fn is_banned(&self, _: &Source) -> bool {
        self.banned
    }
}

type Rule = (u16, [u8; 16]);

fuzz_target!(
    |input: (u32, u32, [u8; 16], u16, Vec<u16>, Vec<Rule>, Vec<u32>, u32)| {
        let (family, protocol, address, port, ports, destinations, loads, turn) = input;
        // Most numbers are no family and no protocol: let half of them be one.
        let family = [IPV4, IPV6]
            .get(family as usize % 4)
            .copied()
            .unwrap_or(family);
        let protocol = if protocol % 2 == 0 { TCP } else { protocol };
        let [.., a, b, c, d] = address;
        let arrival = Arrival {
            family,
            protocol,
            ip4: [a, b, c, d],
            ip6: address,
            port,
            source4: [a, b, c, d],
            source6: address,
        };
        let rules = Rules {
            ports: &ports,
            destinations: &destinations,
            banned: turn % 2 == 0,
        };
        let whole = match family {
            IPV4 => Some(
                std::net::Ipv4Addr::new(a, b, c, d)
                    .to_ipv6_mapped()
                    .octets(),
            ),
            IPV6 => Some(address),
            _ => None,
        };
        let named = whole.is_some_and(|whole| destinations.contains(&(port, whole)));
        let ours = protocol == TCP && whole.is_some() && (ports.contains(&port) || named);
        let wanted = match (ours, rules.banned) {
            (false, _) => Verdict::Pass,
            (true, false) => Verdict::Steer,
            (true, true) => Verdict::Refuse,
        };
        assert_eq!(verdict(&rules, &arrival), wanted);

        let mut all: Loads = [Load::default(); 64];
        for (load, open) in all.iter_mut().zip(&loads) {
            load.open = u64::from(*open);
        }
        let workers = u32::try_from(loads.len()).expect("a short list");
        let chosen = least(workers, turn, &all);
        let seen = &loads[..loads.len().min(all.len())];
        assert_eq!(
            chosen.map(|worker| &loads[worker as usize]),
            seen.iter().min()
        );
    }
);
