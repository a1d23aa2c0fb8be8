//! Who shares memory with whom. PROTOCOL.md, 4.4.
//!
//! Each contact has a window of its own for each local key. Contacts beyond [`MAX_WINDOWS`] share
//! one, and all who are no contacts share another, so that nobody's flood fills a contact's.

use std::collections::HashMap;

use crate::crypto::sodium::PublicKey;

/// Windows of single contacts for one local key. Contacts beyond that share one.
pub const MAX_WINDOWS: usize = 1024;

/// Who a window belongs to. The number is that of the local key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// One contact.
    Contact(usize, PublicKey),
    /// All contacts that have no window of their own.
    Contacts(usize),
    /// All who are no contacts.
    Unknown(usize),
}

impl Owner {
    /// Whether only one sender can move what is in the window.
    pub fn is_one(&self) -> bool {
        matches!(self, Self::Contact(..))
    }
}

/// The windows of all owners. They come into being when they are first needed.
pub struct Windows<W> {
    all: Vec<(Owner, W)>,
    index: HashMap<Owner, usize>,
    /// Windows of single contacts, by local key.
    singles: HashMap<usize, usize>,
}

impl<W> Windows<W> {
    /// None yet.
    pub fn new() -> Self {
        Self { all: Vec::new(), index: HashMap::new(), singles: HashMap::new() }
    }

    /// The number of the window that `sender` has for local key `local`; a new one is made by `new`.
    pub fn of(
        &mut self,
        (local, sender): (usize, PublicKey),
        contact: bool,
        new: impl FnOnce(&Owner) -> W,
    ) -> usize {
        let owner = self.owner((local, sender), contact);
        if let Some(window) = self.index.get(&owner) {
            return *window;
        }
        if owner.is_one() {
            *self.singles.entry(local).or_default() += 1;
        }
        self.all.push((owner, new(&owner)));
        self.index.insert(owner, self.all.len() - 1);
        self.all.len() - 1
    }

    fn owner(&self, (local, sender): (usize, PublicKey), contact: bool) -> Owner {
        let own = Owner::Contact(local, sender);
        let has_room = || self.singles.get(&local).is_none_or(|count| *count < MAX_WINDOWS);
        match contact {
            false => Owner::Unknown(local),
            true if self.index.contains_key(&own) || has_room() => own,
            true => Owner::Contacts(local),
        }
    }

    /// Whether window number `window` belongs to a single contact.
    pub fn is_one(&self, window: usize) -> bool {
        self.all[window].0.is_one()
    }

    /// All windows, by number.
    pub fn iter(&self) -> impl Iterator<Item = (&Owner, &W)> {
        self.all.iter().map(|(owner, window)| (owner, window))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

impl<W> std::ops::Index<usize> for Windows<W> {
    type Output = W;

    fn index(&self, window: usize) -> &W {
        &self.all[window].1
    }
}

impl<W> std::ops::IndexMut<usize> for Windows<W> {
    fn index_mut(&mut self, window: usize) -> &mut W {
        &mut self.all[window].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sodium::KeyPair;

    #[test]
    fn contacts_beyond_the_bound_share_a_window_that_no_stranger_is_in() {
        let mut windows = Windows::new();
        let mut of = |contact| windows.of((0, *KeyPair::generate().public()), contact, |_| ());
        let stranger = of(false);
        let own: Vec<_> = (0..MAX_WINDOWS).map(|_| of(true)).collect();
        let (late, later) = (of(true), of(true));
        assert_eq!(late, later);
        assert!(late != stranger && !own.contains(&late) && of(false) == stranger);
        // For another key of ours there is room.
        let other = windows.of((1, *KeyPair::generate().public()), true, |_| ());
        assert!(windows.is_one(other) && !windows.is_one(late) && !windows.is_one(stranger));
    }
}
