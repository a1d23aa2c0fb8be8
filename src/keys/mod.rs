//! Key files, the keyring, fingerprints and groups.
