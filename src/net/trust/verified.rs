// SPDX-License-Identifier: Apache-2.0
//! Signatures of certificates that were verified before.
//!
//! A provider sends the same certificates with every full handshake, and verifying a signature by a P-384 key, as those
//! of many intermediate authorities are, takes more than a quarter of a second on a MIPS router. Whether a signature is
//! valid depends on four things alone: the algorithm, the key of the issuer, the signed bytes and the signature. So a
//! hash of these four is kept of every signature that proved valid, and the same four need no second calculation.
//!
//! This is all that is skipped, for intermediate certificates and for the server's own alike. Dates, names, constraints,
//! purposes and the path to an authority that the account trusts are judged in every handshake, by the library and
//! before it asks for any signature; so an authority that is trusted no longer, or a certificate that has expired, is
//! refused although its signature is remembered. A certificate in which one byte differs is another message, and the
//! same certificate below the key of another issuer is another key: both are calculated. Signatures that are not valid
//! are never kept. The signature by which a server proves in each handshake that it has the private key is not looked
//! up here: it differs each time.
//!
//! The hashes are in memory only and belong to no account: an attacker who could add one would have to forge a
//! signature or find a collision of SHA-256.

use std::fmt;
use std::sync::{Mutex, OnceLock};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::system::lock;

/// Signatures that are remembered, 1 KB in all: those of ten providers with chains of three certificates.
const LIMIT: usize = 32;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// The algorithms of the provider for certificates, which remember what proved valid.
pub(super) fn algorithms(provider: &CryptoProvider) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static ALGORITHMS: OnceLock<Vec<Remembering>> = OnceLock::new();
    static LIST: OnceLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = OnceLock::new();
    let known = provider.signature_verification_algorithms.all;
    // The program has one provider, so the first one stands for all.
    let wrapped = ALGORITHMS
        .get_or_init(|| known.iter().map(|algorithm| Remembering { algorithm: *algorithm, memory: &MEMORY }).collect());
    LIST.get_or_init(|| wrapped.iter().map(|one| -> &dyn SignatureVerificationAlgorithm { one }).collect())
}

/// What the program remembers.
static MEMORY: Memory = Memory(Mutex::new(Vec::new()));

/// Hashes of valid signatures, the one that was needed last at the end.
#[derive(Debug)]
struct Memory(Mutex<Vec<Hash>>);

impl Memory {
    /// Whether this signature has proved valid before. It is then the last one to be forgotten.
    fn knows(&self, hash: &Hash) -> bool {
        let mut hashes = lock(&self.0);
        let Some(at) = hashes.iter().position(|known| known == hash) else { return false };
        let found = hashes.remove(at);
        hashes.push(found);
        true
    }

    /// This signature is valid. The one that was not needed for the longest time is forgotten for it.
    fn keep(&self, hash: Hash) {
        let mut hashes = lock(&self.0);
        if hashes.len() >= LIMIT {
            hashes.remove(0);
        }
        hashes.push(hash);
    }
}

/// An algorithm that calculates only what it does not remember.
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    memory: &'static Memory,
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let (by, of) = (self.algorithm.signature_alg_id(), self.algorithm.public_key_alg_id());
        let hash = hash([by.as_ref(), of.as_ref(), key, message, signature]);
        if self.memory.knows(&hash) {
            return Ok(());
        }
        self.algorithm.verify_signature(key, message, signature)?;
        self.memory.keep(hash);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

/// One hash of all parts. Each is preceded by its length, so that no other parts give the same bytes.
fn hash(parts: [&[u8]; 5]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; SHA256_OUTPUT_LEN];
    // Both have this length.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_rustls::rustls::NamedGroup;
    use tokio_rustls::rustls::pki_types::alg_id;

    use super::*;

    /// An algorithm that counts its calculations. The signature is valid if it is key and message.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if signature == [key, message].concat() { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P384
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA384
        }
    }

    /// An algorithm with a memory of its own, and its counter.
    fn counting() -> (Remembering, &'static Counting) {
        let counting: &Counting = Box::leak(Box::new(Counting(AtomicUsize::new(0))));
        let memory = Box::leak(Box::new(Memory(Mutex::new(Vec::new()))));
        (Remembering { algorithm: counting, memory }, counting)
    }

    impl Counting {
        /// Calculations since the last question.
        fn count(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn a_valid_signature_is_calculated_once() {
        let (algorithm, counting) = counting();
        for expected in [1, 0, 0] {
            assert!(algorithm.verify_signature(b"key", b"message", b"keymessage").is_ok());
            assert_eq!(counting.count(), expected);
        }
    }

    #[test]
    fn whatever_differs_is_calculated_and_refused_each_time() {
        let (algorithm, counting) = counting();
        assert!(algorithm.verify_signature(b"key", b"message", b"keymessage").is_ok());
        assert_eq!(counting.count(), 1);
        for (key, message, signature) in [
            (&b"key"[..], &b"massage"[..], &b"keymessage"[..]),
            (b"kez", b"message", b"keymessage"),
            (b"key", b"message", b"keymessagf"),
            (b"key", b"message", b""),
            // The same bytes in a row, divided otherwise, with a signature that the four would have in a row as well.
            (b"keym", b"essagek", b"eymessage"),
            (b"", b"keymessage", b"keymessag"),
        ] {
            for _ in 0..2 {
                assert!(algorithm.verify_signature(key, message, signature).is_err(), "{key:?} {message:?}");
                assert_eq!(counting.count(), 1, "{key:?} {message:?}");
            }
        }
        // The right one is still remembered.
        assert!(algorithm.verify_signature(b"key", b"message", b"keymessage").is_ok());
        assert_eq!(counting.count(), 0);
    }

    #[test]
    fn the_same_bytes_by_another_algorithm_are_calculated() {
        #[derive(Debug)]
        struct Never(AlgorithmIdentifier, AlgorithmIdentifier);
        impl SignatureVerificationAlgorithm for Never {
            fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
                Err(InvalidSignature)
            }
            fn public_key_alg_id(&self) -> AlgorithmIdentifier {
                self.0
            }
            fn signature_alg_id(&self) -> AlgorithmIdentifier {
                self.1
            }
        }
        let (algorithm, _) = counting();
        assert!(algorithm.verify_signature(b"key", b"message", b"keymessage").is_ok());
        for (of, by) in [(alg_id::ECDSA_P256, alg_id::ECDSA_SHA384), (alg_id::ECDSA_P384, alg_id::ECDSA_SHA256)] {
            let other = Remembering { algorithm: Box::leak(Box::new(Never(of, by))), memory: algorithm.memory };
            assert!(other.verify_signature(b"key", b"message", b"keymessage").is_err(), "{of:?} {by:?}");
        }
    }

    #[test]
    fn only_so_many_are_remembered_and_the_one_needed_last_stays() {
        let (algorithm, counting) = counting();
        let verify = |number: usize| {
            let message = number.to_string();
            assert!(algorithm.verify_signature(b"", message.as_bytes(), message.as_bytes()).is_ok());
            counting.count()
        };
        for number in 0..10 * LIMIT {
            assert_eq!(verify(number), 1);
            // The first one is needed again and again.
            assert_eq!(verify(0), 0);
            assert!(algorithm.memory.0.lock().unwrap().len() <= LIMIT);
        }
        assert_eq!(verify(1), 1, "long forgotten");
        assert_eq!(verify(10 * LIMIT - 1), 0);
    }

    /// Its calculations are the slowest of all on a small processor.
    #[test]
    fn no_group_is_offered_after_p_384() {
        let groups = crate::system::crypto::provider().kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>();
        let at = groups.iter().position(|group| *group == NamedGroup::secp384r1);
        assert!(at.is_none_or(|at| at + 1 == groups.len()), "{groups:?}");
    }
}
