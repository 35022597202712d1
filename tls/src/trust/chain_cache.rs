//! Cache of verified chains, so that a client that returns costs no verification of their
//! signatures.

use lru::LruCache;
use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::identity::{CertificateIdentity, Fingerprint};

/// Number of locks over which the cache is spread.
const SHARDS: usize = 16;
/// Maximum number of cached chains. The least recently used ones are removed first.
pub(crate) const MOST: usize = 16 * 1024;

/// Maps a certificate to the client that it identified, for as long as verifying its chain again
/// would give the same result.
///
/// It belongs to one set of authorities and revocation lists: another set begins with an empty
/// cache. There is one entry for each leaf certificate, whatever is presented with it, and an entry
/// is created or renewed only for a client that proved that it has the certificate's key. The proof
/// itself is never cached: every handshake requires it again.
#[derive(Debug)]
pub(crate) struct VerifiedChainCache([Mutex<LruCache<Fingerprint, CachedChain>>; SHARDS]);

/// Cache entry of a verified chain.
#[derive(Debug, Clone)]
pub(crate) struct CachedChain {
    pub(crate) identity: CertificateIdentity,
    /// The intermediates on the path from the leaf to an authority.
    pub(crate) path: Vec<Fingerprint>,
    /// Time at which the chain was verified.
    pub(crate) since: UnixTime,
    /// Time at which the first certificate or list on the path expires.
    pub(crate) until: UnixTime,
    /// Time at which the first certificate on the path expires.
    pub(crate) certificates_end: UnixTime,
}

impl Default for VerifiedChainCache {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(LruCache::unbounded())))
    }
}

impl VerifiedChainCache {
    /// Returns the entry of this certificate, if verifying its chain now would give the same
    /// result.
    ///
    /// This does not change the order in which entries are removed, since the client that presents
    /// the certificate has not proven anything yet.
    pub(crate) fn get(&self, leaf: Fingerprint, now: UnixTime) -> Option<CachedChain> {
        self.cached(leaf, now)
    }

    /// Returns the entry of a presented chain, as [`get`](Self::get) does. All intermediates on the
    /// cached path must be among the presented ones.
    pub(crate) fn get_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<CachedChain> {
        let cached = self.cached(Fingerprint::of(leaf), now)?;
        if !cached.path.is_empty() {
            let shown: Vec<_> = intermediates.iter().map(Fingerprint::of).collect();
            if cached.path.iter().any(|one| !shown.contains(one)) {
                return None;
            }
        }
        Some(cached)
    }

    fn cached(&self, leaf: Fingerprint, now: UnixTime) -> Option<CachedChain> {
        let shard = self.shard(leaf).lock();
        let cached = shard.peek(&leaf)?;
        (cached.since <= now && now < cached.until).then(|| cached.clone())
    }

    /// Adds or replaces the entry of a chain. The client must have proven that it has the leaf's
    /// key.
    pub(crate) fn insert(&self, cached: CachedChain) {
        let leaf = cached.identity.fingerprint();
        let mut shard = self.shard(leaf).lock();
        shard.put(leaf, cached);
        if shard.len() > MOST / SHARDS {
            shard.pop_lru();
        }
    }

    /// Marks an entry as recently used. The client must have proven that it has the leaf's key.
    pub(crate) fn touch(&self, leaf: Fingerprint) {
        self.shard(leaf).lock().promote(&leaf);
    }

    /// Returns the number of cached chains.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, leaf: Fingerprint) -> &Mutex<LruCache<Fingerprint, CachedChain>> {
        &self.0[usize::from(leaf.first_byte()) % SHARDS]
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

    fn alice() -> CachedChain {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        let leaf = authority.client("alice").unwrap().certificate_der();
        CachedChain {
            identity: CertificateIdentity::of(&leaf).unwrap(),
            path: Vec::new(),
            since: at(100),
            until: at(200),
            certificates_end: at(200),
        }
    }

    /// The same client under another certificate.
    fn other(cached: &CachedChain, n: usize) -> CachedChain {
        let identity = cached.identity.with_fingerprint(leaf(n));
        CachedChain {
            identity,
            ..cached.clone()
        }
    }

    fn leaf(n: usize) -> Fingerprint {
        Fingerprint::of(n.to_le_bytes())
    }

    #[test]
    fn a_chain_is_remembered_from_when_it_was_verified_to_its_end() {
        let (cache, alice) = (VerifiedChainCache::default(), alice());
        let leaf = alice.identity.fingerprint();
        cache.insert(alice);
        let recalled = |leaf, now| cache.get(leaf, at(now)).is_some();
        assert!(recalled(leaf, 100) && recalled(leaf, 199));
        assert!(!recalled(leaf, 99), "a clock that went back");
        assert!(!recalled(leaf, 200), "something on the path has ended");
        assert!(!recalled(self::leaf(2), 100));
    }

    #[test]
    fn a_chain_is_recalled_if_all_of_its_path_is_shown_again() {
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        let leaf = authority.client("alice").unwrap().certificate_der();
        let [one, two, junk] = [1, 2, 3].map(|n| CertificateDer::from(vec![0x30, 1, n]));
        let cache = VerifiedChainCache::default();
        cache.insert(CachedChain {
            identity: CertificateIdentity::of(&leaf).unwrap(),
            path: vec![Fingerprint::of(&one), Fingerprint::of(&two)],
            since: at(100),
            until: at(200),
            certificates_end: at(200),
        });
        for (shown, expected) in [
            (vec![&one, &two], true),
            (vec![&two, &one], true),
            (vec![&two, &junk, &one], true),
            (vec![&one], false),
            (vec![&one, &junk], false),
            (vec![], false),
        ] {
            let shown: Vec<_> = shown.into_iter().cloned().collect();
            let recalled = cache.get_chain(&leaf, &shown, at(150));
            assert_eq!(recalled.is_some(), expected, "{shown:?}");
        }
        assert!(cache.get_chain(&junk, &[one, two], at(150)).is_none());
    }

    #[test]
    fn a_leaf_has_one_entry() {
        let (cache, alice) = (VerifiedChainCache::default(), alice());
        for path in 0..10 {
            cache.insert(CachedChain {
                path: vec![leaf(path)],
                ..alice.clone()
            });
        }
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn certificates_without_end_take_no_more_memory_and_leave_what_is_used() {
        let (cache, alice) = (VerifiedChainCache::default(), alice());
        for n in 0..3 * MOST {
            cache.insert(other(&alice, n));
            // One that comes all the time, and one that is only shown.
            cache.touch(leaf(0));
            cache.get(leaf(1), at(150));
        }
        assert_eq!(cache.len(), MOST);
        assert!(cache.get(leaf(0), at(150)).is_some());
        assert!(cache.get(leaf(1), at(150)).is_none());
    }
}
