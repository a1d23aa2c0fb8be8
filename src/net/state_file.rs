//! The file of `--state`: what was delivered, for the listener that comes after this one.
//! PROTOCOL.md, section 12.
//!
//! Whoever takes packets in asks [`StateFile::recall`] before it takes a run that it does not know,
//! and says [`StateFile::remember`] once the output has flushed a message and before anything
//! acknowledges it; if that fails, nothing may be acknowledged. Between the two lies the one message
//! that can come twice: a listener that is killed there has written it and not remembered it.
//!
//! An entry is written at once and is the system's from then on, so that no kill loses it; the
//! programs do not wait until a disk has it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, flock, ftruncate, statat};
use rustix::io::Errno;

use super::clock::Clock;
use super::listen::Answering;
use super::private_file::{self, NotPrivate};
use crate::crypto::sodium::random;
use crate::proto::datagram::packet::Mac1;
use crate::proto::datagram::past::{
    BadEntry, ENTRY_LEN, Extent, MAGIC, MAX_ALL_ENTRIES, Past, PastKey, Ran, Recall,
};

/// So many entries more than are remembered may stand in the file before it is written anew.
const SURPLUS: usize = 65_536;
/// The largest file that is read, in bytes: as long as none becomes that is written here.
const MAX_FILE_LEN: u64 = 64 << 20;

const _: () = assert!(((1 + 2 * MAX_ALL_ENTRIES + 2 * SURPLUS) * ENTRY_LEN) as u64 <= MAX_FILE_LEN);

/// Why there is no state to go on with.
#[derive(Debug)]
pub enum StateError {
    /// It cannot be opened, read or written.
    System(io::Error),
    /// It is no file that is ours alone.
    NotPrivate(NotPrivate),
    /// Another listener has it.
    InUse,
    /// It is too long to be one.
    TooLarge,
    /// It is something else.
    NotState,
    /// It was made under a key that is none of ours.
    Foreign,
    /// Its entry at this byte was changed.
    Damaged(u64),
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<NotPrivate> for StateError {
    fn from(why: NotPrivate) -> Self {
        Self::NotPrivate(why)
    }
}

impl From<Errno> for StateError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// The state could not be written. It stands inside an [`io::Error`].
#[derive(Debug)]
pub struct CannotRemember {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for CannotRemember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for CannotRemember {}

/// A state file that is ours alone while this lives.
pub struct StateFile {
    path: PathBuf,
    file: File,
    past: Past,
    header: [u8; ENTRY_LEN],
    /// Entries in the file.
    entries: usize,
    /// Entries on their way into it.
    fresh: Vec<u8>,
}

impl StateFile {
    /// Opens the file at `path` for a listener that answers for `keys`; one that is not there, or
    /// empty, is made under the first of them. What can never come again is removed from it, and a
    /// last entry that was torn by a crash.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path, keys: &[Answering]) -> Result<Self, StateError> {
        let path = path.to_owned();
        let mut file = open_alone(&path)?;
        let mut bytes = Vec::new();
        if file.metadata()?.len() > MAX_FILE_LEN {
            return Err(StateError::TooLarge);
        }
        file.read_to_end(&mut bytes)?;
        let first = keys.first().ok_or(StateError::Foreign)?;
        let (entries, torn) = bytes.as_chunks::<ENTRY_LEN>();
        let Some((header, entries)) = entries.split_first() else {
            // A header that was torn says nothing that is worth keeping.
            if !is_torn_header(torn) {
                return Err(StateError::NotState);
            }
            let (key, header) = PastKey::fresh(first.pair.secret());
            let (past, entries, fresh) = (Past::new(key), 0, Vec::new());
            ftruncate(&file, 0)?;
            file.write_all(&header)?;
            return Ok(Self { path, file, past, header, entries, fresh });
        };
        let past = read(keys, header, entries)?;
        let (header, entries, fresh) = (*header, entries.len(), Vec::new());
        let mut state = Self { path, file, past, header, entries, fresh };
        ftruncate(&state.file, (bytes.len() - torn.len()) as u64)?;
        state.past.forget_expired(Clock::default().now().unix_ms);
        if state.past.len() < state.entries {
            state.rewrite()?;
        }
        Ok(state)
    }

    /// What is known of a run that the caller does not know, and whether there is room to remember
    /// it, at `now_ms` (Unix ms). A `contact`'s runs are remembered apart from all others'.
    pub fn recall(&mut self, ran: &Ran<'_>, contact: bool, now_ms: u64) -> Recall {
        self.past.recall(ran, contact, now_ms)
    }

    /// Whether this very packet, which came by the network, was accepted.
    pub fn has_packet(&self, mac1: &Mac1) -> bool {
        self.past.has_packet(mac1)
    }

    /// The message that `ran` names is out and flushed, and with it its run as far as `extent`
    /// says; `packets` are those of it that were accepted, for which a replay must draw nothing
    /// (empty for a relay, which knows anyway that somebody is there). A `contact`'s messages are
    /// remembered apart from all others'.
    ///
    /// # Errors
    /// [`CannotRemember`] inside: then it must not be acknowledged.
    pub fn remember(
        &mut self,
        ran: &Ran<'_>,
        extent: Extent,
        contact: bool,
        packets: &[Mac1],
    ) -> io::Result<()> {
        self.past.remember(ran, extent, contact, &mut self.fresh);
        self.past.remember_packets(ran, packets, contact, &mut self.fresh);
        self.write()
    }

    /// This packet, which came by the network, was accepted, and is answered.
    ///
    /// # Errors
    /// [`CannotRemember`] inside.
    pub fn remember_packet(
        &mut self,
        ran: &Ran<'_>,
        contact: bool,
        packet: Mac1,
    ) -> io::Result<()> {
        self.past.remember_packets(ran, &[packet], contact, &mut self.fresh);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.append().map_err(|error| {
            let path = self.path.clone();
            io::Error::other(CannotRemember { path, error })
        })
    }

    fn append(&mut self) -> io::Result<()> {
        let fresh = std::mem::take(&mut self.fresh);
        let written = self.file.write_all(&fresh);
        if written.is_err() {
            // If that fails too, whoever opens it cuts off what is torn.
            let whole = (1 + self.entries) * ENTRY_LEN;
            let _ = ftruncate(&self.file, whole as u64);
        }
        written?;
        self.entries += fresh.len() / ENTRY_LEN;
        self.fresh = fresh;
        self.fresh.clear();
        if self.entries > 2 * self.past.len() + SURPLUS {
            self.past.forget_expired(Clock::default().now().unix_ms);
            self.rewrite()?;
        }
        Ok(())
    }

    /// Puts a file in its place that has what is remembered and nothing else.
    fn rewrite(&mut self) -> io::Result<()> {
        let temporary = temporary_beside(&self.path);
        let rewritten = self.write_to(&temporary).and_then(|file| {
            fs::rename(&temporary, &self.path)?;
            Ok(file)
        });
        if rewritten.is_err() {
            // It is of no use; nobody is left to tell.
            let _ = fs::remove_file(&temporary);
        }
        self.file = rewritten?;
        self.entries = self.past.len();
        Ok(())
    }

    /// Without the disk having it, a power cut could leave an empty file under the name.
    fn write_to(&self, temporary: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::open(temporary, flags, Mode::RUSR | Mode::WUSR)?;
        flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
        let mut out = io::BufWriter::new(File::from(fd));
        out.write_all(&self.header)?;
        for entry in self.past.entries() {
            out.write_all(&entry)?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file)
    }
}

fn read(
    keys: &[Answering],
    header: &[u8; ENTRY_LEN],
    entries: &[[u8; ENTRY_LEN]],
) -> Result<Past, StateError> {
    let key = keys.iter().find_map(|key| match PastKey::open(key.pair.secret(), header) {
        Err(BadEntry::Foreign) => None,
        opened => Some(opened),
    });
    let key = key.unwrap_or(Err(BadEntry::Foreign)).map_err(|why| match why {
        BadEntry::Foreign => StateError::Foreign,
        BadEntry::NotState | BadEntry::Damaged => StateError::NotState,
    })?;
    let mut past = Past::new(key);
    for (index, entry) in entries.iter().enumerate() {
        let at = ((1 + index) * ENTRY_LEN) as u64;
        past.learn(entry).map_err(|_| StateError::Damaged(at))?;
    }
    Ok(past)
}

fn is_torn_header(bytes: &[u8]) -> bool {
    let len = bytes.len().min(MAGIC.len());
    bytes[..len] == MAGIC[..len]
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(format!(".{:016x}.tmp", u64::from_be_bytes(random())));
    path.with_file_name(hidden)
}

/// Opens the file for this process alone; one that is not there is made, for nobody else to read.
fn open_alone(path: &Path) -> Result<File, StateError> {
    loop {
        let (fd, opened) = private_file::open_to_append(path, OFlags::RDWR)?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(StateError::InUse),
            result => result?,
        }
        // Whoever had it may have put another in its place before we had the lock.
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        if statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|now| same(&now, &opened)) {
            return Ok(File::from(fd));
        }
    }
}
