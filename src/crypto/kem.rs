//! ML-KEM-768 (FIPS 203) from `aws-lc-rs`: the post-quantum half of the stream handshake.

use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};

use super::sodium::Secret;

/// Size of an encapsulation key, in bytes.
pub const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Size of a ciphertext, in bytes.
pub const CIPHERTEXT_LEN: usize = 1088;

/// The secret half of a key made for one handshake.
pub struct KemSecret(DecapsulationKey);

/// Why a KEM operation gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KemError;

impl KemSecret {
    /// A fresh key and its public half.
    ///
    /// # Errors
    /// When the library has no randomness or memory.
    pub fn generate() -> Result<(Self, [u8; ENCAPSULATION_KEY_LEN]), KemError> {
        let secret = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| KemError)?;
        let public = secret.encapsulation_key().map_err(|_| KemError)?;
        let bytes = public.key_bytes().map_err(|_| KemError)?;
        let bytes = bytes.as_ref().try_into().map_err(|_| KemError)?;
        Ok((Self(secret), bytes))
    }

    /// A stored secret key of 2400 bytes, for test vectors.
    ///
    /// # Errors
    /// When it is no key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KemError> {
        DecapsulationKey::new(&ML_KEM_768, bytes).map(Self).map_err(|_| KemError)
    }

    /// The shared secret in `ciphertext`. A changed one gives another secret, not an error
    /// (FIPS 203, implicit rejection): the handshake then fails at its next message.
    ///
    /// # Errors
    /// When `ciphertext` is not [`CIPHERTEXT_LEN`] bytes.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<32>, KemError> {
        let shared = self.0.decapsulate(ciphertext.into()).map_err(|_| KemError)?;
        Secret::from_slice(shared.as_ref()).ok_or(KemError)
    }
}

/// Makes a shared secret for the holder of `public`, and the ciphertext that carries it there.
///
/// # Errors
/// When `public` is no valid encapsulation key (FIPS 203, section 7.2).
pub fn encapsulate(public: &[u8]) -> Result<([u8; CIPHERTEXT_LEN], Secret<32>), KemError> {
    let key = EncapsulationKey::new(&ML_KEM_768, public).map_err(|_| KemError)?;
    let (ciphertext, shared) = key.encapsulate().map_err(|_| KemError)?;
    let ciphertext = ciphertext.as_ref().try_into().map_err(|_| KemError)?;
    Ok((ciphertext, Secret::from_slice(shared.as_ref()).ok_or(KemError)?))
}
