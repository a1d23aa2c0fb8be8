//! The messages of a history, in the order in which they began, whatever the file went through.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::append::lock;
use super::entry::{self, Entry, FRAME_LEN, Head, MAX_ENTRY, SYNC, State};
use crate::crypto::sodium::KeyPair;
use crate::net::private_file;

/// What is read at once, in bytes: several entries.
const WINDOW: usize = 4 * MAX_ENTRY;

/// What was passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Bytes of no whole entry: a program was killed, or the disk was full, while it wrote.
    pub torn: u64,
    /// Whole entries for other keys, or changed.
    pub sealed: u64,
}

/// A history, read entry by entry.
///
/// The entries of a record need not stand together: other programs append between them. So a
/// message is followed to its end, and then the file is read on from where it began; what is
/// remembered is where the messages end that overlap with that place.
pub struct Replay<'k> {
    keys: Vec<&'k KeyPair>,
    file: Window,
    /// Where the next entry is looked for.
    at: u64,
    /// Everything before was looked at.
    looked: u64,
    /// Where each record ends that was followed beyond `at`.
    followed: HashMap<[u8; 16], u64>,
    /// What was passed over so far.
    pub passed_over: PassedOver,
    opened: bool,
    begins_like_one: bool,
}

/// A message whose entries are asked for one by one.
pub struct Record {
    head: Head,
    next: Option<Entry>,
    /// The number that the next entry must have.
    seq: u64,
    /// An entry of it is missing.
    gap: bool,
    /// Where the file is read on.
    resume: u64,
    end: u64,
}

impl Record {
    /// What all its entries say.
    pub fn head(&self) -> &Head {
        &self.head
    }
}

/// What comes next of a message.
pub enum Part {
    /// Content, at most 64 KiB.
    Content(Vec<u8>),
    /// It has ended.
    End(State),
}

impl<'k> Replay<'k> {
    /// Reads `file` as it is now, with these keys.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(file: File, keys: Vec<&'k KeyPair>) -> io::Result<Self> {
        let mut file = Window::new(file)?;
        let begins_like_one = SYNC.starts_with(file.bytes(0, SYNC.len())?);
        Ok(Self {
            keys,
            file,
            begins_like_one,
            at: 0,
            looked: 0,
            followed: HashMap::new(),
            passed_over: PassedOver::default(),
            opened: false,
        })
    }

    /// Opens the history at `path`, if nobody else can change it: they could have anybody say anything.
    ///
    /// # Errors
    /// What the system says, and what [`private_file`] refuses.
    pub fn file(path: &Path) -> io::Result<File> {
        Ok(File::from(private_file::open_to_read(path)?))
    }

    /// Whether any entry was opened.
    pub fn opened_any(&self) -> bool {
        self.opened
    }

    /// Whether the file begins as a history does, were it torn in its first entry.
    pub fn begins_like_one(&self) -> bool {
        self.begins_like_one
    }

    /// The next message; `None` at the end of the file.
    ///
    /// # Errors
    /// What reading the file said.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        while let Some(entry) = self.next_entry()? {
            let at = self.at;
            self.followed.retain(|_, end| *end >= at);
            if self.followed.contains_key(&entry.head.record) {
                continue;
            }
            let head = entry.head.clone();
            let next = Some(entry);
            return Ok(Some(Record { head, next, seq: 0, gap: false, resume: at, end: at }));
        }
        Ok(None)
    }

    /// What comes next of `record`, which is over after [`Part::End`].
    ///
    /// # Errors
    /// What reading the file said.
    pub fn next_part(&mut self, record: &mut Record) -> io::Result<Part> {
        let Some(entry) = &mut record.next else {
            record.next = self.follow(record)?;
            // Who recorded it was killed.
            return match record.next {
                Some(_) => self.next_part(record),
                None => Ok(self.finish(record, State::Cut)),
            };
        };
        record.gap |= entry.seq != record.seq;
        record.seq = entry.seq.saturating_add(1);
        let state = entry.state;
        let content = std::mem::take(&mut entry.content);
        // The state of an entry stands behind its content.
        let ends = state != State::Open && content.is_empty();
        if ends {
            return Ok(self.finish(record, state));
        }
        record.next = None;
        if state != State::Open {
            let head = record.head.clone();
            record.next = Some(Entry { head, seq: record.seq, state, content: Vec::new() });
        }
        Ok(Part::Content(content))
    }

    /// The next entry of the same record.
    fn follow(&mut self, record: &mut Record) -> io::Result<Option<Entry>> {
        self.at = record.end;
        while let Some(entry) = self.next_entry()? {
            // A copy of what was read already is no news: two copies of a history, one behind the
            // other.
            if entry.head.record == record.head.record && entry.seq >= record.seq {
                record.end = self.at;
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn finish(&mut self, record: &Record, state: State) -> Part {
        self.at = record.resume;
        if record.end > record.resume {
            self.followed.insert(record.head.record, record.end);
        }
        Part::End(if record.gap { State::Cut } else { state })
    }

    /// The next entry that opens, wherever it stands.
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        while self.at < self.file.len {
            let start = self.at;
            let length = entry::length(self.file.bytes(start, FRAME_LEN)?);
            let frame = self.file.bytes(start, length.unwrap_or(0))?;
            let whole = length.is_some_and(|length| frame.len() == length);
            let found = self.keys.iter().filter(|_| whole).find_map(|key| entry::open(key, frame));
            if let Some(entry) = found {
                self.at = start + frame.len() as u64;
                self.looked = self.looked.max(self.at);
                self.opened = true;
                return Ok(Some(entry));
            }
            let end = start + frame.len() as u64;
            let next = self.file.find_sync(start + 1)?;
            self.pass_over(start, next, whole && next == end);
        }
        Ok(None)
    }

    fn pass_over(&mut self, start: u64, next: u64, whole: bool) {
        if start >= self.looked {
            match whole {
                true => self.passed_over.sealed += 1,
                false => self.passed_over.torn += next - start,
            }
            self.looked = next;
        }
        self.at = next;
    }
}

/// A part of the file, as it was when it was opened.
struct Window {
    file: File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(file: File) -> io::Result<Self> {
        // Whoever appends just now comes to an end.
        lock(&file, FlockOperation::LockShared)?;
        let len = file.metadata().map(|m| m.len());
        lock(&file, FlockOperation::Unlock)?;
        Ok(Self { file, len: len?, start: 0, bytes: Vec::new() })
    }

    /// `len` bytes from `at` on, at most [`MAX_ENTRY`]; fewer only at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let end = (at + len as u64).min(self.len);
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            self.load(at)?;
        }
        let from = at.saturating_sub(self.start) as usize;
        let to = (end.saturating_sub(self.start) as usize).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or(&[]))
    }

    fn load(&mut self, at: u64) -> io::Result<()> {
        let wanted = self.len.saturating_sub(at).min(WINDOW as u64) as usize;
        self.start = at;
        self.bytes.resize(wanted, 0);
        let mut read = 0;
        while read < wanted {
            match self.file.read_at(&mut self.bytes[read..], at + read as u64) {
                // It was truncated meanwhile.
                Ok(0) => {
                    self.bytes.truncate(read);
                    self.len = at + read as u64;
                    break;
                }
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Where the next sync stands, from `at` on; the end of the file if there is none.
    fn find_sync(&mut self, mut at: u64) -> io::Result<u64> {
        while at < self.len {
            let bytes = self.bytes(at, MAX_ENTRY)?;
            if let Some(found) = bytes.windows(SYNC.len()).position(|w| w == SYNC) {
                return Ok(at + found as u64);
            }
            let end = at + bytes.len() as u64;
            if end >= self.len {
                break;
            }
            // A sync may lie across the end of these bytes.
            at = end - (SYNC.len() - 1) as u64;
        }
        Ok(self.len)
    }
}
