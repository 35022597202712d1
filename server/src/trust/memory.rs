//! Chains that were found good, so that a client who comes again costs no verification of their
//! signatures.

use lru::LruCache;
use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::identity::{Fingerprint, Identity};

/// How many locks the memory is spread over.
const SHARDS: usize = 16;
/// How many chains are remembered; those that came least recently are forgotten first.
pub(crate) const MOST: usize = 16 * 1024;

/// Remembers who was identified by which chain, for as long as verifying it again would come to the same.
///
/// It belongs to the same authorities and the same revocations: others begin with an empty memory. Only what was found good is remembered. That a client holds the certificate's key is
/// not: it has to prove that in every handshake.
#[derive(Debug)]
pub(crate) struct Memory([Mutex<LruCache<Fingerprint, Known>>; SHARDS]);

/// The hash of a whole chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(Fingerprint);

/// How many bytes a [`Key`] has.
pub(crate) const KEY_LENGTH: usize = 32;

#[derive(Debug)]
struct Known {
    identity: Identity,
    since: UnixTime,
    until: UnixTime,
}

impl Default for Memory {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(LruCache::unbounded())))
    }
}

impl Key {
    /// Two chains have the same key if they are of the same certificates in the same order.
    pub(crate) fn of(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Self {
        if intermediates.is_empty() {
            return Self(Fingerprint::of(leaf));
        }
        let mut all = Vec::new();
        for certificate in std::iter::once(leaf).chain(intermediates) {
            // Where one ends and the next begins is part of it.
            all.extend_from_slice(&certificate.len().to_be_bytes());
            all.extend_from_slice(certificate);
        }
        Self(Fingerprint::of(all))
    }

    pub(crate) fn to_bytes(self) -> [u8; KEY_LENGTH] {
        self.0.to_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(Fingerprint::from_bytes(bytes))
    }
}

impl Memory {
    /// Who was identified by this chain, if verifying it now would come to the same.
    pub(crate) fn recall(&self, key: Key, now: UnixTime) -> Option<Identity> {
        let mut shard = self.shard(key).lock();
        let known = shard.get(&key.0)?;
        (known.since <= now && now < known.until).then(|| known.identity.clone())
    }

    /// Remembers who was identified by a chain now, and until when it will be so.
    pub(crate) fn keep(&self, key: Key, identity: Identity, now: UnixTime, until: UnixTime) {
        let mut shard = self.shard(key).lock();
        let known = Known {
            identity,
            since: now,
            until,
        };
        shard.put(key.0, known);
        if shard.len() > MOST / SHARDS {
            shard.pop_lru();
        }
    }

    fn shard(&self, key: Key) -> &Mutex<LruCache<Fingerprint, Known>> {
        &self.0[usize::from(key.0.first_byte()) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certgen::{Authority, AuthoritySpec};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn alice() -> Identity {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        Identity::of(&authority.client("alice").unwrap().certificate_der()).unwrap()
    }

    fn key(n: usize) -> Key {
        Key::of(&CertificateDer::from(n.to_le_bytes().to_vec()), &[])
    }

    #[test]
    fn a_chain_is_remembered_from_when_it_was_verified_to_its_end() {
        let memory = Memory::default();
        memory.keep(key(1), alice(), at(100), at(200));
        let recalled = |key, now| memory.recall(key, at(now)).is_some();
        assert!(recalled(key(1), 100) && recalled(key(1), 199));
        assert!(!recalled(key(1), 99), "a clock that went back");
        assert!(!recalled(key(1), 200), "something on the path has ended");
        assert!(!recalled(key(2), 100));
    }

    #[test]
    fn the_whole_chain_is_the_key() {
        let one = CertificateDer::from(vec![0x30, 1, 1]);
        let other = CertificateDer::from(vec![0x30, 1, 2]);
        let both = CertificateDer::from([&*one, &*other].concat());
        let of = |chain: &[&CertificateDer<'static>]| {
            let chain: Vec<_> = chain.iter().map(|one| (*one).clone()).collect();
            Key::of(&chain[0], &chain[1..]).0
        };
        let keys = [
            of(&[&one]),
            of(&[&other]),
            of(&[&both]),
            of(&[&one, &other]),
            of(&[&other, &one]),
            of(&[&one, &other, &one]),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key));
        }
    }

    #[test]
    fn whoever_shows_chain_after_chain_takes_no_more_memory() {
        let (memory, alice) = (Memory::default(), alice());
        for n in 0..3 * MOST {
            memory.keep(key(n), alice.clone(), at(1), at(2));
            // One that comes all the time.
            assert!(memory.recall(key(0), at(1)).is_some());
        }
        let kept: usize = memory.0.iter().map(|shard| shard.lock().len()).sum();
        assert_eq!(kept, MOST);
        assert!(memory.recall(key(1), at(1)).is_none());
    }
}
