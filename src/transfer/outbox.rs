//! What a sender sends: a file, or a folder entry by entry. PROTOCOL.md, section 3.3 has the fields
//! of META.
//!
//! A folder is a row of messages of kind 2. The first bears its name, with the length of all that
//! is in it; then come its entries, `NAME/PATH`, a folder within it after what is in it; the last is
//! its name again, without a length: it is complete. The type bits of the mode say what an entry is;
//! the bytes of a symbolic link are its target.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};

use super::incoming::Resume;
use super::names::{BadPath, entry_path, text_of};
use super::walk::{Found, Listing, Node, NodeKind, Skip, Walk, mtime_ms};
use crate::crypto::prefix_hash::PrefixHash;
use crate::proto::stream::meta::{MAX_NAME, MessageKind, Meta};

/// Read at a time, in bytes.
pub const PIECE: usize = 64 * 1024;

/// What one path of the command line stands for.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(Outgoing),
    /// A folder.
    Folder(Folder),
}

/// One message: its META, and its bytes.
#[derive(Debug)]
pub struct Outgoing {
    kind: MessageKind,
    /// Its name, as META has it.
    pub name: String,
    /// Its length in bytes; none for a folder that is complete.
    pub size: Option<u64>,
    /// Mode; with the type bits in a folder.
    pub mode: u32,
    /// Modification time, Unix ms.
    pub mtime: i64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File { file: File, stat: Stat, position: u64 },
    Bytes(io::Cursor<Vec<u8>>),
}

/// A folder that is sent.
#[derive(Debug)]
pub struct Folder {
    root: File,
    name: String,
    total: u64,
    walk: Walk,
    /// Bytes of what the receiver has.
    there: u64,
}

/// What comes next of a folder.
#[derive(Debug)]
pub enum Next {
    /// An entry.
    Entry(Outgoing),
    /// One that is left out: its name, and why.
    Skipped(String, Skip),
    /// Nothing: it is complete.
    Done,
}

impl Source {
    /// Opens what is at `path`, through links, since the user named it. A folder is walked once for
    /// the length of it all.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidInput`] for a socket, a FIFO or a device.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = name_of(path)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let stat = fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Ok(Self::File(Outgoing::file(MessageKind::File, name, file, stat)))
            }
            FileType::Directory => Folder::new(file, name).map(Self::Folder),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder")),
        }
    }
}

/// The last part of `path`; of what it stands for, if that is `.`, `..` or `/`.
fn name_of(path: &Path) -> io::Result<String> {
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        None => path.canonicalize()?.file_name().unwrap_or_default().to_owned(),
    };
    let name = text_of(name.as_bytes());
    // The receiver makes a name of any; within a folder it must be one already.
    Ok(if name.is_empty() { "root".to_owned() } else { name })
}

impl Outgoing {
    fn file(kind: MessageKind, name: String, file: File, stat: Stat) -> Self {
        let mode = if kind == MessageKind::File { stat.st_mode & 0o7777 } else { stat.st_mode };
        let size = Some(stat.st_size as u64);
        let mtime = mtime_ms(&stat);
        Self { kind, name, size, mode, mtime, content: Content::File { file, stat, position: 0 } }
    }

    fn entry(name: String, node: &Node, size: Option<u64>, bytes: Vec<u8>) -> Self {
        let content = Content::Bytes(io::Cursor::new(bytes));
        let kind = MessageKind::DirectoryEntry;
        Self { kind, name, size, mode: node.mode, mtime: node.mtime, content }
    }

    /// Whether it is the last message of a folder.
    pub fn closes_folder(&self) -> bool {
        self.kind == MessageKind::DirectoryEntry && self.size.is_none() && !self.name.contains('/')
    }

    /// META of it.
    pub fn meta(&self, id: [u8; 16], time_ms: u64) -> Meta {
        Meta {
            kind: self.kind as u8,
            name: Some(self.name.clone()),
            size: self.size,
            mode: Some(self.mode),
            mtime: Some(self.mtime),
            ..Meta::message(id, time_ms)
        }
    }

    /// Goes on where the receiver offers to, if what it has is the beginning of this file;
    /// otherwise at 0. Returns which. Reads all up to there.
    ///
    /// # Errors
    /// What reading says.
    pub fn resume(&mut self, resume: &Resume) -> io::Result<u64> {
        let Content::File { file, stat, position } = &mut self.content else { return Ok(0) };
        file.seek(SeekFrom::Start(0))?;
        *position = 0;
        if resume.offset > stat.st_size as u64 {
            return Ok(0);
        }
        match PrefixHash::of(file, resume.offset) {
            Ok(hash) if hash == resume.hash => *position = resume.offset,
            Ok(_) => drop(file.seek(SeekFrom::Start(0))?),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
            Err(error) => return Err(error),
        }
        Ok(*position)
    }

    /// The next bytes, at most as many as `piece` has room for; 0 at the end, once it is sure that
    /// the file is still the one that META described.
    ///
    /// # Errors
    /// What reading says; [`io::ErrorKind::InvalidData`] if the file changed meanwhile.
    pub fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let (file, stat, position) = match &mut self.content {
            Content::Bytes(bytes) => return bytes.read(piece),
            Content::File { file, stat, position } => (file, stat, position),
        };
        let left = (stat.st_size as u64).saturating_sub(*position);
        let want = left.min(piece.len() as u64) as usize;
        if want == 0 {
            return if left == 0 { unchanged(file, stat).map(|()| 0) } else { Ok(0) };
        }
        let count = file.read(&mut piece[..want])?;
        if count == 0 {
            return Err(changed());
        }
        *position += count as u64;
        Ok(count)
    }
}

fn unchanged(file: &File, before: &Stat) -> io::Result<()> {
    let now = fstat(file)?;
    let facts = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec);
    if facts(&now) == facts(before) { Ok(()) } else { Err(changed()) }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it changed while it was sent")
}

impl Folder {
    fn new(root: File, name: String) -> io::Result<Self> {
        let mut walk = Walk::new(&root)?;
        let mut total = 0_u64;
        while let Some(found) = walk.step()? {
            if let Found::Node(Node { kind: NodeKind::File, size, .. }) = found {
                total = total.saturating_add(size);
            }
        }
        let walk = Walk::new(&root)?;
        // What a terminal would act on in it is written out, so that every entry's name is one.
        let name = entry_path(&name).map_err(|why| io::Error::other(why.to_string()))?;
        Ok(Self { root, name, total, walk, there: 0 })
    }

    /// The message with which it begins.
    ///
    /// # Errors
    /// What the system says.
    pub fn opening(&self) -> io::Result<Outgoing> {
        let node = Node::new(String::new(), NodeKind::Folder, &fstat(&self.root)?);
        Ok(Outgoing::entry(self.name.clone(), &node, Some(self.total), Vec::new()))
    }

    /// Goes on behind the entries that the receiver has, if they are the first of this folder;
    /// otherwise from the beginning. Returns how many are left out; [`Self::there`] how many bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn resume(&mut self, resume: &Resume) -> io::Result<u64> {
        self.there = 0;
        if resume.offset == 0 {
            return Ok(0);
        }
        self.walk = Walk::new(&self.root)?;
        let mut listing = Listing::default();
        while listing.count < resume.offset {
            match self.walk.step()? {
                Some(Found::Node(node)) => {
                    listing.add(&node);
                    self.there += if node.kind == NodeKind::File { node.size } else { 0 };
                }
                Some(Found::Skipped(..)) => {}
                None => break,
            }
        }
        if listing.count == resume.offset && listing.finish() == resume.hash {
            return Ok(listing.count);
        }
        self.walk = Walk::new(&self.root)?;
        self.there = 0;
        Ok(0)
    }

    /// Its name, as META has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes in the files that are left out.
    pub fn there(&self) -> u64 {
        self.there
    }

    /// The next entry; in the end the folder itself.
    ///
    /// # Errors
    /// What the system says of the folder itself; an entry that cannot be read is skipped.
    pub fn advance(&mut self) -> io::Result<Next> {
        match self.walk.step()? {
            None => Ok(Next::Done),
            Some(Found::Skipped(path, why)) => Ok(Next::Skipped(self.full(&path), why)),
            Some(Found::Node(node)) => Ok(self.entry(node)),
        }
    }

    fn full(&self, path: &str) -> String {
        if path.is_empty() { self.name.clone() } else { format!("{}/{path}", self.name) }
    }

    fn entry(&self, node: Node) -> Next {
        let name = self.full(&node.path);
        if name.len() > MAX_NAME {
            return Next::Skipped(name, Skip::Name(BadPath::TooLong));
        }
        match &node.kind {
            NodeKind::Folder => Next::Entry(Outgoing::entry(name, &node, None, Vec::new())),
            NodeKind::Link(target) => {
                let size = Some(target.len() as u64);
                Next::Entry(Outgoing::entry(name, &node, size, target.clone()))
            }
            NodeKind::File => match self.open_last() {
                Ok((file, stat)) => {
                    let kind = MessageKind::DirectoryEntry;
                    Next::Entry(Outgoing::file(kind, name, file, stat))
                }
                Err(why) => Next::Skipped(name, why),
            },
        }
    }

    fn open_last(&self) -> Result<(File, Stat), Skip> {
        let file = self.walk.open_last().map_err(Skip::Unreadable)?;
        let stat = fstat(&file).map_err(Skip::Unreadable)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, stat)),
            _ => Err(Skip::Special),
        }
    }
}
