//! What was delivered before this process began: the content of a state file, without the file.
//! PROTOCOL.md, section 12.
//!
//! [`Past`] is the set, [`PastKey`] hides and checks its entries: whoever reads them without the
//! key learns how many there are. Entries go in by [`Past::learn`] when the file is read and come
//! out of [`Past::remember`] and [`Past::entries`] to be written. Each contact has a window of at most
//! [`MAX_ENTRIES`], and the window a floor, as in [`super::replay`]: what is forgotten stays rejected,
//! and nobody's flood makes room by another's entries or lifts another's floor. A window that many
//! share forgets nothing for room: when it is full, [`Past::recall`] lets nothing new in.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::packet::{Mac1, Way};
use crate::crypto::sodium::{
    PublicKey, Secret, constant_time_eq, keyed_hash, keyed_hash_secret, random,
};
use crate::proto::time::CLOCK_WINDOW_MS;

/// Size of an entry, and of the header of the file, in bytes.
pub const ENTRY_LEN: usize = 48;
/// What a state file begins with.
pub const MAGIC: [u8; 8] = *b"\xf5ACstat\x01";
/// Entries of one window; with those of runs that are on their way when it is full, a little more.
pub const MAX_ENTRIES: usize = 65_536;
/// Entries of all windows: 24 MiB in the file.
pub const MAX_ALL_ENTRIES: usize = 512 * 1024;
/// Of those, entries of windows that many share.
pub const MAX_SHARED_ENTRIES: usize = 128 * 1024;
/// Windows of single contacts; those beyond share one.
pub const MAX_WINDOWS: usize = 1024;
/// What came by a relay is remembered for 31 days: a day longer than any relay holds it, in ms.
pub const RELAY_LIFE_MS: u64 = 31 * 24 * 60 * 60 * 1000;

/// Size of the check of an entry, and of a tag, in bytes.
const TAG_LEN: usize = 16;
/// What stands for the sender in the windows that many share: who are no contacts, and contacts
/// beyond [`MAX_WINDOWS`].
const UNKNOWN: [u8; 32] = [0; 32];
const CONTACTS: [u8; 32] = [0xff; 32];
/// Size of what an entry says, in bytes.
pub const PLAIN_LEN: usize = ENTRY_LEN - TAG_LEN;

/// Whose run it was, and which.
#[derive(Debug, Clone, Copy)]
pub struct Ran<'a> {
    /// How it came: by the network or by a relay.
    pub way: Way,
    /// The key that it was for. Its place among ours may be another after a restart.
    pub local: &'a PublicKey,
    /// Its sender's key.
    pub sender: &'a PublicKey,
    /// Its random 8 bytes.
    pub run: [u8; 8],
    /// When the message in question was made, Unix ms by the sender's clock.
    pub time_ms: u64,
}

/// What is known of a run that seems to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Nothing: it is new.
    New,
    /// This message, the last of its run, was delivered: that can be said again, and nothing else.
    Delivered,
    /// It is of a run that was delivered in part or differs from what was, or it is so old that it
    /// may be forgotten: silence.
    Gone,
    /// It is new, and there is no room to remember it in.
    Full,
}

/// How much of a run was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its first message, and others follow or followed: it cannot be gone on with in another
    /// process, whose output may be another.
    Begun,
}

/// Why an entry or a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadEntry {
    /// It is not what begins a state file.
    NotState,
    /// It was made under another key.
    Foreign,
    /// It was changed.
    Damaged,
}

/// What hides and checks the entries of one file.
pub struct PastKey(Secret<32>);

impl PastKey {
    /// A new file's key, for the holder of `secret`, and its header.
    pub fn fresh(secret: &Secret<32>) -> (Self, [u8; ENTRY_LEN]) {
        let mut header = [0; ENTRY_LEN];
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[MAGIC.len()..PLAIN_LEN].copy_from_slice(&random::<24>());
        let key = Self::of(secret, &header);
        header[PLAIN_LEN..].copy_from_slice(&key.tag(&[b"header", &MAGIC]));
        (key, header)
    }

    /// The key of the file that begins with `header`.
    ///
    /// # Errors
    /// [`BadEntry::NotState`], [`BadEntry::Foreign`].
    pub fn open(secret: &Secret<32>, header: &[u8; ENTRY_LEN]) -> Result<Self, BadEntry> {
        if !header.starts_with(&MAGIC) {
            return Err(BadEntry::NotState);
        }
        let key = Self::of(secret, header);
        let checked = constant_time_eq(&header[PLAIN_LEN..], &key.tag(&[b"header", &MAGIC]));
        if checked { Ok(key) } else { Err(BadEntry::Foreign) }
    }

    fn of(secret: &Secret<32>, header: &[u8; ENTRY_LEN]) -> Self {
        let state: Secret<32> = keyed_hash_secret(secret.expose(), &[b"AnonChat v1 state"]);
        Self(keyed_hash_secret(state.expose(), &[&header[MAGIC.len()..PLAIN_LEN]]))
    }

    fn tag(&self, pieces: &[&[u8]]) -> [u8; TAG_LEN] {
        keyed_hash(self.0.expose(), pieces)
    }

    /// The check is the nonce of the rest: equal entries look equal, and nothing else does.
    fn veil(&self, check: &[u8; TAG_LEN], text: &mut [u8; PLAIN_LEN]) {
        let stream: [u8; PLAIN_LEN] = keyed_hash(self.0.expose(), &[b"veil", check]);
        text.iter_mut().zip(stream).for_each(|(byte, veil)| *byte ^= veil);
    }

    fn run_tag(&self, ran: &Ran<'_>) -> Tag {
        let (local, sender) = (ran.local.as_bytes(), ran.sender.as_bytes());
        self.tag(&[b"run", &[way_code(ran.way)], local, sender, &ran.run])
    }

    fn packet_tag(&self, mac1: &Mac1) -> Tag {
        self.tag(&[b"packet", mac1])
    }

    /// The window of `sender` for the same way and key.
    fn window(&self, ran: &Ran<'_>, sender: &[u8; 32]) -> WindowId {
        let tag = self.tag(&[b"window", &[way_code(ran.way)], ran.local.as_bytes(), sender]);
        let mut id = WindowId { way: way_code(ran.way), tag: [0; 6] };
        id.tag.copy_from_slice(&tag[..6]);
        id
    }
}

type Tag = [u8; TAG_LEN];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct WindowId {
    way: u8,
    tag: [u8; 6],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// A run of which all was delivered; its time is that of its last message.
    Whole = 1,
    /// A run of which a part was delivered; its time is that of its first message.
    Begun = 2,
    /// A packet that was accepted: again, it is a replay.
    Packet = 3,
    /// What is at or below this time in its window was forgotten.
    Floor = 4,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Whole, Self::Begun, Self::Packet, Self::Floor];
}

/// What one entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    kind: Kind,
    window: WindowId,
    time_ms: u64,
    tag: Tag,
}

impl Entry {
    /// Hides it under `key`.
    pub fn seal(&self, key: &PastKey) -> [u8; ENTRY_LEN] {
        let mut plain = self.encode();
        let check = key.tag(&[b"entry", &plain]);
        key.veil(&check, &mut plain);
        let mut out = [0; ENTRY_LEN];
        out[..PLAIN_LEN].copy_from_slice(&plain);
        out[PLAIN_LEN..].copy_from_slice(&check);
        out
    }

    /// Reads what [`Entry::seal`] made.
    ///
    /// # Errors
    /// [`BadEntry::Damaged`].
    pub fn open(key: &PastKey, sealed: &[u8; ENTRY_LEN]) -> Result<Self, BadEntry> {
        let (mut plain, mut check) = ([0; PLAIN_LEN], [0; TAG_LEN]);
        plain.copy_from_slice(&sealed[..PLAIN_LEN]);
        check.copy_from_slice(&sealed[PLAIN_LEN..]);
        key.veil(&check, &mut plain);
        if !constant_time_eq(&key.tag(&[b"entry", &plain]), &check) {
            return Err(BadEntry::Damaged);
        }
        Self::decode(&plain).ok_or(BadEntry::Damaged)
    }

    /// What is hidden.
    pub fn encode(&self) -> [u8; PLAIN_LEN] {
        let mut plain = [0; PLAIN_LEN];
        plain[0] = self.kind as u8;
        plain[1] = self.window.way;
        plain[2..8].copy_from_slice(&self.window.tag);
        plain[8..16].copy_from_slice(&self.time_ms.to_be_bytes());
        plain[16..].copy_from_slice(&self.tag);
        plain
    }

    /// Reads what was hidden; `None` if it breaks rule M5.
    pub fn decode(plain: &[u8; PLAIN_LEN]) -> Option<Self> {
        let (mut way_tag, mut time, mut tag) = ([0; 6], [0; 8], [0; TAG_LEN]);
        way_tag.copy_from_slice(&plain[2..8]);
        time.copy_from_slice(&plain[8..16]);
        tag.copy_from_slice(&plain[16..]);
        let way = plain[1];
        life_ms(way)?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == plain[0])?;
        if kind == Kind::Floor && tag != [0; TAG_LEN] {
            return None;
        }
        Some(Self {
            kind,
            window: WindowId { way, tag: way_tag },
            time_ms: u64::from_be_bytes(time),
            tag,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    kind: Kind,
    window: WindowId,
    time_ms: u64,
}

#[derive(Default)]
struct Window {
    floor: u64,
    /// Oldest first.
    order: BTreeSet<(u64, Tag)>,
}

/// Whether a window is one contact's, or that of many.
#[derive(Clone, Copy)]
enum Share {
    One,
    Many,
}

/// All that is remembered.
pub struct Past {
    key: PastKey,
    known: HashMap<Tag, Known>,
    windows: HashMap<WindowId, Window>,
    /// Those windows that many share, as far as they were used since the file was read.
    shared: HashSet<WindowId>,
}

impl Past {
    /// Nothing yet.
    pub fn new(key: PastKey) -> Self {
        Self { key, known: HashMap::new(), windows: HashMap::new(), shared: HashSet::new() }
    }

    /// Takes an entry of the file in. They come in the order in which they were written.
    ///
    /// # Errors
    /// [`BadEntry::Damaged`].
    pub fn learn(&mut self, sealed: &[u8; ENTRY_LEN]) -> Result<(), BadEntry> {
        let entry = Entry::open(&self.key, sealed)?;
        self.take(entry);
        Ok(())
    }

    fn take(&mut self, entry: Entry) {
        let Entry { kind, window, time_ms, tag } = entry;
        if kind == Kind::Floor {
            let floor = &mut self.windows.entry(window).or_default().floor;
            *floor = time_ms.max(*floor);
            return;
        }
        if let Some(before) = self.known.insert(tag, Known { kind, window, time_ms })
            && let Some(its) = self.windows.get_mut(&before.window)
        {
            its.order.remove(&(before.time_ms, tag));
        }
        self.windows.entry(window).or_default().order.insert((time_ms, tag));
    }

    /// What is known at `now_ms` (Unix ms) of a run that whoever asks does not know, before it is
    /// taken in. A `contact` has a window of its own.
    pub fn recall(&mut self, ran: &Ran<'_>, contact: bool, now_ms: u64) -> Recall {
        match self.known.get(&self.key.run_tag(ran)) {
            Some(known) if known.kind == Kind::Whole && known.time_ms == ran.time_ms => {
                return Recall::Delivered;
            }
            Some(_) => return Recall::Gone,
            None => {}
        }
        let (window, share) = self.window(ran, contact);
        let has_room = match share {
            Share::One => self.make_room(window, now_ms),
            Share::Many => self.many_have_room(window),
        };
        let floor = self.windows.get(&window).map_or(0, |window| window.floor);
        match ran.time_ms <= floor {
            true => Recall::Gone,
            false if has_room => Recall::New,
            false => Recall::Full,
        }
    }

    /// Makes room in a contact's window, by what was made before now and is its own, or of the
    /// contact that has most.
    fn make_room(&mut self, window: WindowId, now_ms: u64) -> bool {
        while self.len_of(&window) >= MAX_ENTRIES {
            if !self.forget_oldest(window, now_ms) {
                return false;
            }
        }
        while self.known.len() - self.of_many() >= MAX_ALL_ENTRIES - MAX_SHARED_ENTRIES {
            let single = self.windows.iter().filter(|(id, _)| !self.shared.contains(id));
            let fullest = single.max_by_key(|(_, w)| w.order.len()).map(|(id, _)| *id);
            if !fullest.is_some_and(|fullest| self.forget_oldest(fullest, now_ms)) {
                return false;
            }
        }
        true
    }

    fn many_have_room(&self, window: WindowId) -> bool {
        self.len_of(&window) < MAX_ENTRIES && self.of_many() < MAX_SHARED_ENTRIES
    }

    fn len_of(&self, window: &WindowId) -> usize {
        self.windows.get(window).map_or(0, |window| window.order.len())
    }

    /// Entries in windows that many share.
    fn of_many(&self) -> usize {
        self.shared.iter().map(|window| self.len_of(window)).sum()
    }

    /// Forgets the oldest entry of a window, unless it is of a time to come.
    fn forget_oldest(&mut self, window: WindowId, now_ms: u64) -> bool {
        let Some(of) = self.windows.get_mut(&window) else { return false };
        let is_past = of.order.first().is_some_and(|(time_ms, _)| *time_ms <= now_ms);
        is_past && forget_first(of, &mut self.known)
    }

    /// Whether this very packet was accepted.
    pub fn has_packet(&self, mac1: &Mac1) -> bool {
        self.known.contains_key(&self.key.packet_tag(mac1))
    }

    /// A run was delivered, as far as `extent` says. The entry is appended to `out`, to be written
    /// before that is acknowledged. A `contact` has a window of its own.
    pub fn remember(&mut self, ran: &Ran<'_>, extent: Extent, contact: bool, out: &mut Vec<u8>) {
        let kind = match extent {
            Extent::Whole => Kind::Whole,
            Extent::Begun => Kind::Begun,
        };
        let (window, tag) = (self.window(ran, contact).0, self.key.run_tag(ran));
        self.add(Entry { kind, window, time_ms: ran.time_ms, tag }, out);
    }

    /// These packets of a run were accepted: by the network, where a replay must draw nothing. Where
    /// there is no room they are not remembered.
    pub fn remember_packets(
        &mut self,
        ran: &Ran<'_>,
        mac1s: &[Mac1],
        contact: bool,
        out: &mut Vec<u8>,
    ) {
        let (window, share) = self.window(ran, contact);
        for mac1 in mac1s {
            let has_room = match share {
                Share::One => self.known.len() < MAX_ALL_ENTRIES,
                Share::Many => self.many_have_room(window),
            };
            if has_room {
                let tag = self.key.packet_tag(mac1);
                self.add(Entry { kind: Kind::Packet, window, time_ms: ran.time_ms, tag }, out);
            }
        }
    }

    fn add(&mut self, entry: Entry, out: &mut Vec<u8>) {
        out.extend_from_slice(&entry.seal(&self.key));
        self.take(entry);
    }

    /// The window of a sender: a contact's own, as long as there are not too many of those.
    fn window(&mut self, ran: &Ran<'_>, contact: bool) -> (WindowId, Share) {
        let own = self.key.window(ran, ran.sender.as_bytes());
        if contact && (self.windows.len() < MAX_WINDOWS || self.windows.contains_key(&own)) {
            return (own, Share::One);
        }
        let shared = self.key.window(ran, if contact { &CONTACTS } else { &UNKNOWN });
        self.shared.insert(shared);
        (shared, Share::Many)
    }

    /// Forgets what would be rejected for its age at `now_ms` (Unix ms). A floor stays for 31 days,
    /// so that a clock that is set back by less lets nothing in again.
    pub fn forget_expired(&mut self, now_ms: u64) {
        for (id, window) in &mut self.windows {
            let limit = now_ms.saturating_sub(life_ms(id.way).unwrap_or(RELAY_LIFE_MS));
            while window.order.first().is_some_and(|(time_ms, _)| *time_ms < limit) {
                forget_first(window, &mut self.known);
            }
        }
        let limit = now_ms.saturating_sub(RELAY_LIFE_MS);
        self.windows.retain(|_, window| !window.order.is_empty() || window.floor >= limit);
    }

    /// How many entries [`Past::entries`] has.
    pub fn len(&self) -> usize {
        self.known.len() + self.windows.values().filter(|window| window.floor > 0).count()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is remembered, as a file has it behind its header.
    pub fn entries(&self) -> impl Iterator<Item = [u8; ENTRY_LEN]> {
        let floors =
            self.windows.iter().filter(|(_, window)| window.floor > 0).map(|(id, window)| Entry {
                kind: Kind::Floor,
                window: *id,
                time_ms: window.floor,
                tag: [0; TAG_LEN],
            });
        let known = self.known.iter().map(|(tag, known)| {
            let Known { kind, window, time_ms } = *known;
            Entry { kind, window, time_ms, tag: *tag }
        });
        floors.chain(known).map(|entry| entry.seal(&self.key))
    }
}

/// Forgets the oldest entry of a window and lifts the floor to its time; `false` if there is none.
fn forget_first(window: &mut Window, known: &mut HashMap<Tag, Known>) -> bool {
    let Some((time_ms, tag)) = window.order.pop_first() else { return false };
    window.floor = window.floor.max(time_ms);
    known.remove(&tag).is_some()
}

/// Boxes in files are opened as often as they are shown: nobody asks about them.
fn way_code(way: Way) -> u8 {
    match way {
        Way::Network | Way::File => 0,
        Way::Relay => 1,
    }
}

/// How long what came this way can be accepted, in ms.
fn life_ms(way: u8) -> Option<u64> {
    [CLOCK_WINDOW_MS, RELAY_LIFE_MS].get(usize::from(way)).copied()
}
