//! How a member of a group hands out its own public key file. PROTOCOL.md, 6.5.
//!
//! All members hold the group's key, so that a HERE proves a member and not which one. The proof
//! here binds the member's own key to one question: it is keyed with what the member's secret and a
//! throwaway key of the seeker share, so that nobody but these two can make it. The name is a claim
//! even so.

use crate::crypto::sodium::{KeyPair, PublicKey, Secret, constant_time_eq, keyed_hash};
use crate::proto::datagram::packet::MessageId;
use crate::proto::datagram::presence::{Claim, Introduction, MAX_NAME};

/// Introduces the holder of `me`, who calls itself `name`, to whoever asked with `id` and the
/// throwaway key `seeker` for members of `group`; `None` if that key protects nothing.
pub fn introduce(
    me: &KeyPair,
    access: &[u8; 32],
    name: Option<&str>,
    group: &PublicKey,
    id: MessageId,
    seeker: &PublicKey,
) -> Option<Introduction> {
    let name = name.filter(|name| name.len() <= MAX_NAME).unwrap_or_default().to_owned();
    let claim = Claim { public: *me.public(), access: *access, name };
    let proof = proof(&me.dh(seeker).ok()?, group, id, &claim);
    Some(Introduction { claim, proof })
}

/// Whether the holder of the key that is introduced made `introduction` in answer to `id`, asked
/// with the throwaway key `seeker`.
pub fn is_proven(
    introduction: &Introduction,
    group: &PublicKey,
    id: MessageId,
    seeker: &KeyPair,
) -> bool {
    let Introduction { claim, proof: claimed } = introduction;
    // The group's own key introduces nobody.
    claim.public != *group
        && seeker
            .dh(&claim.public)
            .is_ok_and(|shared| constant_time_eq(claimed, &proof(&shared, group, id, claim)))
}

fn proof(
    shared: &Secret<32>,
    group: &PublicKey,
    id: MessageId,
    Claim { public, access, name }: &Claim,
) -> [u8; 32] {
    let (group, member) = (group.as_bytes(), public.as_bytes());
    let label = b"AnonChat v1 introduction";
    let id = id.to_bytes();
    keyed_hash(shared.expose(), &[label, &id, group, member, access, name.as_bytes()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_introduction_is_proven_to_the_one_who_asked_and_for_that_question_only() {
        let (alice, group, seeker) =
            (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
        let id = MessageId { run: [7; 8], sequence: 0 };
        let made = introduce(&alice, &[9; 32], Some("alice"), group.public(), id, seeker.public());
        let made = made.unwrap();
        let holds = |made: &Introduction, group: &KeyPair, id, seeker: &KeyPair| {
            is_proven(made, group.public(), id, seeker)
        };
        assert!(holds(&made, &group, id, &seeker));
        assert!(!holds(&made, &group, MessageId { run: [8; 8], sequence: 0 }, &seeker));
        assert!(!holds(&made, &KeyPair::generate(), id, &seeker));
        assert!(!holds(&made, &group, id, &KeyPair::generate()));
        for change in [
            |made: &mut Introduction| made.claim.access[0] ^= 1,
            |made: &mut Introduction| made.claim.name = "carol".into(),
            |made: &mut Introduction| made.claim.public = *KeyPair::generate().public(),
            |made: &mut Introduction| made.proof[31] ^= 1,
        ] {
            let mut forged = made.clone();
            change(&mut forged);
            assert!(!holds(&forged, &group, id, &seeker));
        }
        assert!(!is_proven(&made, alice.public(), id, &seeker));
    }
}
