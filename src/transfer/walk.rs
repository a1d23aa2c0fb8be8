//! A folder, entry by entry, in an order that two machines agree on: by name as it lands, byte for
//! byte, and a folder after what is in it, when nothing changes its time any more.

use std::ffi::CString;
use std::fs::File;
use std::vec::IntoIter;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, Result};

use super::names::{BadPath, check_link, entry_path, text_of};
use crate::crypto::prefix_hash::PrefixHash;

/// How a folder of a tree is opened: never through a link.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// The owner's permissions: the part of a mode that no receiver's umask should change.
const OWNER: u32 = 0o700;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A folder, all of which has been walked.
    Folder,
    /// A symbolic link to this, which stays within the folder.
    Link(Vec<u8>),
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path below the folder, as it lands; empty for the folder itself, which comes last.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
    /// Length in bytes.
    pub size: u64,
    /// Its `st_mode`.
    pub mode: u32,
    /// Modification time, Unix ms.
    pub mtime: i64,
}

/// Why an entry is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// A socket, a FIFO or a device.
    Special,
    /// It has a name, or is a link, that would be declined.
    Name(BadPath),
    /// It cannot be looked at or opened.
    Unreadable(Errno),
}

/// What a walk comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The next entry.
    Node(Node),
    /// One that is left out; its path in text.
    Skipped(String, Skip),
}

/// A walk. Holds one open folder for each level, and the names in it.
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Level>,
    /// The raw name of the entry that came last, in the folder on top of the stack.
    last: CString,
}

#[derive(Debug)]
struct Level {
    folder: File,
    path: String,
    names: IntoIter<(String, CString)>,
}

impl Walk {
    /// From the beginning of `folder`.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(folder: &File) -> Result<Self> {
        let folder = File::from(openat(folder, ".", FOLDER, Mode::empty())?);
        Ok(Self { levels: vec![Level::new(folder, String::new())?], last: CString::default() })
    }

    /// The next entry; none after the folder itself.
    ///
    /// # Errors
    /// What the system says of the folder itself.
    pub fn step(&mut self) -> Result<Option<Found>> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some((text, raw)) = level.names.next() else { return self.leave().map(Some) };
            let path = if level.path.is_empty() { text } else { format!("{}/{text}", level.path) };
            match look(&level.folder, &path, &raw) {
                Ok(Looked::Node(node)) => {
                    self.last = raw;
                    return Ok(Some(Found::Node(node)));
                }
                Ok(Looked::Enter(folder)) => self.levels.push(folder),
                Err(why) => return Ok(Some(Found::Skipped(path, why))),
            }
        }
    }

    /// Opens the file that came last, to be read.
    ///
    /// # Errors
    /// What the system says; `ELOOP` for what has become a link.
    pub fn open_last(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let level = self.levels.last().ok_or(Errno::NOENT)?;
        openat(&level.folder, &self.last, flags, Mode::empty()).map(File::from)
    }

    fn leave(&mut self) -> Result<Found> {
        let level = self.levels.pop().ok_or(Errno::NOENT)?;
        let stat = fstat(&level.folder)?;
        Ok(Found::Node(Node::new(level.path, NodeKind::Folder, &stat)))
    }
}

impl Level {
    fn new(folder: File, path: String) -> Result<Self> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                let text = text_of(name.to_bytes());
                // What is no name for an entry is left out when it is looked at.
                names.push((entry_path(&text).unwrap_or(text), name.to_owned()));
            }
        }
        names.sort_unstable();
        Ok(Self { folder, path, names: names.into_iter() })
    }
}

enum Looked {
    Node(Node),
    Enter(Level),
}

fn look(folder: &File, path: &str, raw: &CString) -> std::result::Result<Looked, Skip> {
    let checked = entry_path(path).map_err(Skip::Name)?;
    let stat = statat(folder, raw, AtFlags::SYMLINK_NOFOLLOW).map_err(Skip::Unreadable)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Symlink => {
            let target = readlinkat(folder, raw, Vec::new()).map_err(Skip::Unreadable)?;
            check_link(path, target.to_bytes()).map_err(Skip::Name)?;
            NodeKind::Link(target.into_bytes())
        }
        FileType::Directory => {
            let inner = openat(folder, raw, FOLDER, Mode::empty()).map_err(Skip::Unreadable)?;
            let level = Level::new(File::from(inner), checked).map_err(Skip::Unreadable)?;
            return Ok(Looked::Enter(level));
        }
        _ => return Err(Skip::Special),
    };
    Ok(Looked::Node(Node::new(checked, kind, &stat)))
}

impl Node {
    /// What `stat` says about the entry at `path`.
    pub fn new(path: String, kind: NodeKind, stat: &Stat) -> Self {
        Self { path, kind, size: stat.st_size as u64, mode: stat.st_mode, mtime: mtime_ms(stat) }
    }
}

/// The modification time of `stat`, Unix ms, rounded down.
pub fn mtime_ms(stat: &Stat) -> i64 {
    let (seconds, nanos) = (stat.st_mtime, stat.st_mtime_nsec as i64);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// What the first entries of a folder are, in brief: the offset and hash of RESUME for a folder.
///
/// Their names, kinds, lengths, times, targets and what their owner may do; not their bytes, as
/// with rsync. Of folders only the name, since theirs change until they are complete.
#[derive(Default)]
pub struct Listing {
    hash: PrefixHash,
    /// How many entries.
    pub count: u64,
}

impl Listing {
    /// Adds the next entry.
    pub fn add(&mut self, node: &Node) {
        self.count += 1;
        self.field(node.path.as_bytes());
        match &node.kind {
            NodeKind::File => {
                self.hash.update(b"f");
                self.hash.update(&node.size.to_be_bytes());
                self.hash.update(&node.mtime.to_be_bytes());
                self.hash.update(&(node.mode & OWNER).to_be_bytes());
            }
            NodeKind::Folder => self.hash.update(b"d"),
            NodeKind::Link(target) => {
                self.hash.update(b"l");
                self.field(target);
            }
        }
    }

    fn field(&mut self, bytes: &[u8]) {
        self.hash.update(&(bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    /// The hash of all entries so far.
    pub fn finish(&self) -> [u8; 32] {
        self.hash.finish()
    }
}
