//! Project Wycheproof's attack vectors, through the doors that the programs themselves use.

use anonchat::crypto::kem::{self, KemSecret};
use anonchat::crypto::noise::{Resolver, TAG_LEN};
use anonchat::crypto::sodium::{self, BadPublicKey, KeyPair, PublicKey, Secret};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use snow::params::CipherChoice;
use snow::resolvers::CryptoResolver;
use snow::types::Cipher;
use wycheproof::TestResult;

/// 2^255 - 19 as a little-endian number: keys from here on are second forms of others.
fn is_second_form(key: &[u8; 32]) -> bool {
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    key.iter().rev().ge(prime.iter().rev())
}

#[test]
fn x25519_agrees_or_refuses() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let (mut agreed, mut second_forms, mut low_order) = (0, 0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let foreign: &[u8; 32] = test.public_key[..].try_into().unwrap();
        let secret = Secret::from_slice(&test.private_key).unwrap();
        let expected = if is_second_form(foreign) {
            second_forms += 1;
            Err(BadPublicKey::NonCanonical)
        } else if test.shared_secret.iter().all(|byte| *byte == 0) {
            low_order += 1;
            Err(BadPublicKey::LowOrder)
        } else {
            agreed += 1;
            Ok(test.shared_secret.to_vec())
        };
        let raw = sodium::x25519(&secret, foreign).map(|shared| shared.expose().to_vec());
        assert_eq!(raw, expected, "raw X25519, case {}", test.tc_id);
        let pair = KeyPair::from_secret(secret);
        let checked = PublicKey::from_bytes(foreign)
            .and_then(|public| pair.dh(&public))
            .map(|shared| shared.expose().to_vec());
        assert_eq!(checked, expected, "a checked key, case {}", test.tc_id);
    }
    assert!(agreed >= 470, "{agreed} agreed");
    assert!(second_forms >= 25, "{second_forms} second forms");
    assert!(low_order >= 15, "{low_order} of low order");
}

/// One case with a 256-bit key, a 96-bit nonce and a 128-bit tag.
struct GcmCase {
    id: usize,
    key: [u8; 32],
    nonce: [u8; 12],
    aad: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    valid: bool,
}

fn gcm_cases() -> Vec<GcmCase> {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let groups = set.test_groups.iter().filter(|group| {
        (group.key_size, group.nonce_size, group.tag_size) == (256, 96, TAG_LEN * 8)
    });
    groups
        .flat_map(|group| &group.tests)
        .map(|test| GcmCase {
            id: test.tc_id,
            key: test.key[..].try_into().unwrap(),
            nonce: test.nonce[..].try_into().unwrap(),
            aad: test.aad.to_vec(),
            plain: test.pt.to_vec(),
            sealed: [&test.ct[..], &test.tag[..]].concat(),
            valid: test.result == TestResult::Valid,
        })
        .collect()
}

fn noise_cipher(key: &[u8; 32]) -> Box<dyn Cipher> {
    let mut cipher = Resolver.resolve_cipher(&CipherChoice::AESGCM).unwrap();
    cipher.set(key);
    cipher
}

/// Noise fixes the first four bytes of the nonce to zero (section 12.3).
fn noise_counter(nonce: &[u8; 12]) -> Option<u64> {
    let (fixed, counter) = nonce.split_first_chunk::<4>().unwrap();
    (*fixed == [0; 4]).then(|| u64::from_be_bytes(counter.try_into().unwrap()))
}

/// The published set holds a single such nonce; the next test carries the others over.
#[test]
fn aes_gcm_vectors_whose_nonce_noise_can_form_hold() {
    let mut ran = 0;
    for case in gcm_cases() {
        let Some(counter) = noise_counter(&case.nonce) else { continue };
        ran += 1;
        assert!(case.valid, "case {} became an invalid one", case.id);
        let cipher = noise_cipher(&case.key);
        let mut sealed = vec![0; case.sealed.len()];
        cipher.encrypt(counter, &case.aad, &case.plain, &mut sealed);
        assert_eq!(sealed, case.sealed, "case {}", case.id);
        let mut opened = vec![0; case.plain.len()];
        cipher.decrypt(counter, &case.aad, &case.sealed, &mut opened).unwrap();
        assert_eq!(opened, case.plain, "case {}", case.id);
    }
    assert!(ran >= 1, "no vector applied");
}

/// Two halves of one argument: the library under the Noise cipher holds every vector, and the
/// Noise cipher is that library at the nonce `0000 ‖ counter`, on the same keys and texts.
#[test]
fn aes_gcm_holds_every_vector_and_noise_uses_it_unchanged() {
    let cases = gcm_cases();
    assert!(cases.len() >= 66, "{} vectors", cases.len());
    for (case, counter) in
        cases.iter().zip([0, 1, 0x0102_0304_0506_0708, u64::MAX - 1].iter().cycle())
    {
        let library = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &case.key).unwrap());
        let open = |sealed: &[u8]| {
            let nonce = Nonce::assume_unique_for_key(case.nonce);
            let mut text = sealed.to_vec();
            library
                .open_in_place(nonce, Aad::from(&case.aad), &mut text)
                .map(|plain| plain.to_vec())
        };
        assert_eq!(open(&case.sealed).ok(), case.valid.then(|| case.plain.clone()), "{}", case.id);

        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let mut expected = case.plain.clone();
        let nonce = Nonce::assume_unique_for_key(nonce);
        library.seal_in_place_append_tag(nonce, Aad::from(&case.aad), &mut expected).unwrap();
        let cipher = noise_cipher(&case.key);
        let mut sealed = vec![0; expected.len()];
        cipher.encrypt(*counter, &case.aad, &case.plain, &mut sealed);
        assert_eq!(sealed, expected, "case {} at counter {counter}", case.id);

        let mut opened = vec![0; case.plain.len()];
        cipher.decrypt(*counter, &case.aad, &sealed, &mut opened).unwrap();
        assert_eq!(opened, case.plain, "case {}", case.id);
        for position in 0..sealed.len() {
            sealed[position] ^= 1;
            let changed = cipher.decrypt(*counter, &case.aad, &sealed, &mut opened);
            assert!(changed.is_err(), "case {}, byte {position} changed", case.id);
            sealed[position] ^= 1;
        }
    }
}

fn mlkem(name: wycheproof::mlkem::TestName) -> Vec<wycheproof::mlkem::Test> {
    let set = wycheproof::mlkem::TestSet::load(name).unwrap();
    set.test_groups.into_iter().flat_map(|group| group.tests).collect()
}

#[test]
fn mlkem_768_decapsulates_as_published_and_refuses_what_is_malformed() {
    let tests = mlkem(wycheproof::mlkem::TestName::MlKem768SemiExpandedDecaps);
    assert!(tests.len() >= 9, "{} vectors", tests.len());
    for test in tests {
        let shared = KemSecret::from_bytes(test.decaps_key.as_ref().unwrap())
            .and_then(|secret| secret.decapsulate(test.ct.as_ref().unwrap()));
        if test.result == TestResult::Valid {
            let expected = test.shared_secret.as_ref().unwrap();
            assert_eq!(&shared.ok().unwrap().expose()[..], &expected[..], "case {}", test.tc_id);
        } else {
            assert!(shared.is_err(), "case {} was taken", test.tc_id);
        }
    }
}

/// Our key generation takes no seed; the keys that published seeds give must still work here.
#[test]
fn mlkem_768_key_pairs_of_the_published_seeds_belong_together() {
    let tests = mlkem(wycheproof::mlkem::TestName::MlKem768KeyGenSeed);
    assert!(tests.len() >= 100, "{} vectors", tests.len());
    for test in tests {
        let public = test.encaps_key.as_ref().unwrap();
        let secret = KemSecret::from_bytes(test.decaps_key.as_ref().unwrap()).unwrap();
        let (ciphertext, sent) = kem::encapsulate(public).unwrap();
        assert!(secret.decapsulate(&ciphertext).unwrap() == sent, "case {}", test.tc_id);
    }
}

#[test]
fn mlkem_768_encapsulates_to_valid_keys_only() {
    let tests = mlkem(wycheproof::mlkem::TestName::MlKem768Encaps);
    let (mut taken, mut refused) = (0, 0);
    for test in tests {
        let outcome = kem::encapsulate(test.encaps_key.as_ref().unwrap());
        assert_eq!(outcome.is_ok(), test.result == TestResult::Valid, "case {}", test.tc_id);
        if outcome.is_ok() { taken += 1 } else { refused += 1 }
    }
    assert!(taken >= 133 && refused >= 132, "{taken} taken, {refused} refused");
}

/// These vectors name their secret keys by seed only, so of each what needs no seed is checked:
/// its public key, and that a ciphertext of a wrong length is refused.
#[test]
fn mlkem_768_refuses_ciphertexts_of_a_wrong_length() {
    let (secret, _) = KemSecret::generate().unwrap();
    let (mut public_keys, mut wrong_lengths) = (0, 0);
    for test in mlkem(wycheproof::mlkem::TestName::MlKem768) {
        if let Some(public) = &test.encaps_key {
            assert!(kem::encapsulate(public).is_ok(), "case {}", test.tc_id);
            public_keys += 1;
        }
        let ciphertext = test.ct.as_ref().unwrap();
        if ciphertext.len() != kem::CIPHERTEXT_LEN {
            assert!(secret.decapsulate(ciphertext).is_err(), "case {}", test.tc_id);
            wrong_lengths += 1;
        }
    }
    assert!(public_keys >= 161 && wrong_lengths >= 19, "{public_keys}, {wrong_lengths}");
}
