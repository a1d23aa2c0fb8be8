//! What one session brings to an inbox: messages of kind 1 and 2, as [`super::outbox`] has them.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{FileType, fsync};

use super::declined::Declined;
use super::folder::{Entry, IncomingFolder, sync_all, type_of};
use super::inbox::{Sender, Shared};
use super::incoming::{IncomingFile, Place, Resume};
use super::landing;
use super::names::entry_path;
use super::part::{Part, PartKey};
use super::room::Room;
use crate::proto::stream::meta::{MessageKind, Meta};

/// So many files are synced one by one; for more, all that the file system has.
const FEW: usize = 3;

/// One session's files and folders, one after another. Dropped in the middle of one, it leaves its
/// part.
#[derive(Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
    room: Arc<Room>,
    sender: Sender,
    /// Bytes that came, or were there when their file or folder was gone on with.
    total: u64,
    folder: Option<IncomingFolder>,
    current: Option<Current>,
    /// Files that are whole, in their order: they land together.
    whole: Vec<(File, Part)>,
    /// When the last item began, by our clock, Unix ms.
    now_ms: u64,
}

/// The message that is coming.
#[derive(Debug)]
enum Current {
    File(IncomingFile),
    /// The first of a folder.
    Opening,
    Entry(Entry),
    /// The last of a folder: its mode and time.
    Closing(u32, Option<i64>),
    /// An item that has landed: under this name just now, or before.
    Again(Option<String>),
}

impl Delivery {
    pub(super) fn new(shared: Arc<Shared>, room: Arc<Room>, sender: Sender) -> Self {
        let (folder, current, whole) = (None, None, Vec::new());
        Self { shared, room, sender, total: 0, folder, current, whole, now_ms: 0 }
    }

    /// A file, a folder or an entry of it begins, at `now_ms` of our clock. There is a [`Resume`]
    /// for what asks for one ([`Meta::asks_resume`]) and for nothing else; with it, nothing may
    /// come before [`Self::start_at`]. Its hash is of all that is there, which takes its time.
    ///
    /// # Errors
    /// [`Declined`]: nothing of it is taken. The folder of a declined entry goes on.
    pub fn begin(&mut self, meta: &Meta, now_ms: u64) -> Result<Option<Resume>, Declined> {
        self.abort();
        if meta.kind == MessageKind::File as u8 {
            self.check_files(1)?;
            let (file, resume) = self.open_file(meta, now_ms)?;
            self.current = Some(Current::File(file));
            let there = resume.map_or(0, |resume| resume.offset);
            self.check_room(meta.size.unwrap_or_default().saturating_sub(there))?;
            return Ok(resume);
        }
        if meta.kind != MessageKind::DirectoryEntry as u8 {
            return Err(Declined::Kind);
        }
        let name = meta.name.as_deref().unwrap_or_default();
        match name.split_once('/') {
            Some((folder, path)) => self.begin_entry(meta, folder, path, now_ms),
            None if meta.size.is_some() => self.open_folder(meta, name, now_ms),
            None => self.close_folder(meta, name),
        }
    }

    /// A file begins that may come again, named by [`Meta::id`] and its sender: it lands once,
    /// whatever becomes of us meanwhile ([`super::received`]). Nothing of it is gone on with.
    ///
    /// # Errors
    /// [`Declined`]: nothing of it is taken.
    pub fn begin_once(&mut self, meta: &Meta, now_ms: u64) -> Result<(), Declined> {
        self.abort();
        if meta.kind != MessageKind::File as u8 {
            return Err(Declined::Kind);
        }
        // It would be offered to be gone on with, and nobody is there to hear that.
        if meta.asks_resume() {
            return Err(Declined::Length);
        }
        self.now_ms = now_ms;
        let Shared { directory, parts, received, .. } = &*self.shared;
        // Held until there is a part: else another program could remember the item in between.
        let held = received.hold(directory)?;
        let key = PartKey::of_item(&self.sender.key, &meta.id);
        self.current = Some(if held.get(key).is_some() {
            Current::Again(landing::finish(key, parts, directory, &held)?)
        } else {
            self.check_files(1)?;
            let (most, mode) = (self.most(meta)?, self.shared.file_mode(meta.mode));
            let part = self.shared.item(&self.sender, meta, now_ms)?;
            Current::File(IncomingFile::open(directory, part, meta, mode, most)?.0)
        });
        drop(held);
        // What has landed needs no more.
        if self.is_file() { self.check_room(meta.size.unwrap_or_default()) } else { Ok(()) }
    }

    fn open_file(
        &self,
        meta: &Meta,
        now_ms: u64,
    ) -> Result<(IncomingFile, Option<Resume>), Declined> {
        let most = self.most(meta)?;
        let mode = self.shared.file_mode(meta.mode);
        let part = self.shared.part(&self.sender, meta, now_ms)?;
        IncomingFile::open(&self.shared.directory, part, meta, mode, most)
    }

    /// How many bytes a file may have.
    fn most(&self, meta: &Meta) -> Result<u64, Declined> {
        let most = self.left()?.min(self.shared.limits.max_file.unwrap_or(u64::MAX));
        if meta.size.is_some_and(|size| size > most) {
            return Err(Declined::TooLarge(most));
        }
        Ok(most)
    }

    fn open_folder(
        &mut self,
        meta: &Meta,
        name: &str,
        now_ms: u64,
    ) -> Result<Option<Resume>, Declined> {
        entry_path(name)?;
        let (left, size) = (self.left()?, meta.size.unwrap_or_default());
        if type_of(meta.mode) != FileType::Directory {
            return Err(Declined::Kind);
        }
        if size > left {
            return Err(Declined::TooLarge(left));
        }
        self.set_folder_aside();
        self.check_files(1)?;
        let part = self.shared.part(&self.sender, meta, now_ms)?;
        let (folder, resume) = IncomingFolder::open(&self.shared.directory, part, name)?;
        let missing = size.saturating_sub(folder.there);
        self.folder = Some(folder);
        self.current = Some(Current::Opening);
        self.check_room(missing)?;
        Ok(Some(resume))
    }

    fn begin_entry(
        &mut self,
        meta: &Meta,
        folder: &str,
        path: &str,
        now_ms: u64,
    ) -> Result<Option<Resume>, Declined> {
        self.folder_named(folder)?.count()?;
        let path = entry_path(path)?;
        // Itself, and the folders that may be missing above it.
        self.check_files(1 + path.matches('/').count() as u64)?;
        let mut resume = None;
        let entry = match type_of(meta.mode) {
            FileType::RegularFile if meta.asks_resume() => {
                let (file, offer) = self.open_file(meta, now_ms)?;
                resume = offer;
                Entry::File(file, path)
            }
            FileType::RegularFile => {
                let (most, mode) = (self.most(meta)?, self.shared.file_mode(meta.mode));
                let folder = self.folder_named(folder)?;
                Entry::File(folder.short_file(&path, meta, mode, most)?, path)
            }
            // Neither is so long that its sender would wait for an answer.
            FileType::Symlink | FileType::Directory if meta.asks_resume() => {
                return Err(Declined::Length);
            }
            FileType::Symlink => Entry::Link(Vec::new(), meta.mtime, path),
            FileType::Directory => {
                Entry::Folder(self.shared.folder_mode(meta.mode), meta.mtime, path)
            }
            _ => return Err(Declined::Kind),
        };
        self.current = Some(Current::Entry(entry));
        Ok(resume)
    }

    fn close_folder(&mut self, meta: &Meta, name: &str) -> Result<Option<Resume>, Declined> {
        self.folder_named(name)?.count()?;
        self.current = Some(Current::Closing(self.shared.folder_mode(meta.mode), meta.mtime));
        Ok(None)
    }

    fn folder_named(&mut self, name: &str) -> Result<&mut IncomingFolder, Declined> {
        self.folder.as_mut().filter(|folder| folder.name == name).ok_or(Declined::Kind)
    }

    /// How many bytes may still come.
    fn left(&self) -> Result<u64, Declined> {
        let Some(max) = self.shared.limits.max_total else { return Ok(u64::MAX) };
        max.checked_sub(self.total).ok_or(Declined::TooLarge(max))
    }

    /// Declines what was begun if the disk has no room for it.
    fn check_room(&mut self, bytes: u64) -> Result<(), Declined> {
        let room = self.room.check(self.shared.directory.directory(), bytes, 0);
        if room.is_err() {
            if let Some(Current::Opening) = self.current {
                self.set_folder_aside();
            }
            self.abort();
        }
        room
    }

    /// Whether the disk has room for so many more files and folders.
    fn check_files(&self, files: u64) -> Result<(), Declined> {
        self.room.check(self.shared.directory.directory(), 0, files)
    }

    /// The sender goes on at `offset`: the one of [`Resume`], or 0 since what it has is another.
    /// Returns how many bytes are there.
    ///
    /// # Errors
    /// [`Declined`]; the part stays.
    pub fn start_at(&mut self, offset: u64) -> Result<u64, Declined> {
        let there = match self.current.as_mut().ok_or(Declined::Order)? {
            Current::File(file) | Current::Entry(Entry::File(file, _)) => {
                file.start_at(offset)?;
                offset
            }
            Current::Opening => {
                let folder = self.folder.as_mut().ok_or(Declined::Order)?;
                folder.start_at(offset)?;
                folder.there
            }
            _ => return Err(Declined::Order),
        };
        self.total = self.total.saturating_add(there);
        Ok(there)
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`Declined`]; the part stays.
    pub fn data(&mut self, piece: &[u8]) -> Result<(), Declined> {
        let current = self.current.as_mut().ok_or(Declined::Order)?;
        if let Current::File(_) | Current::Entry(Entry::File(..)) = current {
            self.room.take(self.shared.directory.directory(), piece.len() as u64)?;
        }
        match current {
            Current::File(file) => file.data(piece)?,
            Current::Entry(entry) => entry.data(piece)?,
            Current::Again(_) => {}
            _ if piece.is_empty() => {}
            _ => return Err(Declined::Length),
        }
        self.total = self.total.saturating_add(piece.len() as u64);
        Ok(())
    }

    /// Whether what comes is a file that is in no folder.
    pub fn is_file(&self) -> bool {
        matches!(self.current, Some(Current::File(_)))
    }

    /// The file is whole, and lands with [`Self::land`]; until then nothing else may end.
    ///
    /// # Errors
    /// [`Declined`]; what was there stays. None of those that wait for [`Self::land`] is concerned.
    pub fn set_whole(&mut self) -> Result<(), Declined> {
        match self.current.take() {
            Some(Current::File(file)) => match file.complete()? {
                (file, Place::Part(part)) => self.whole.push((file, part)),
                (_, Place::Within(..)) => return Err(Declined::Order),
            },
            _ => return Err(Declined::Order),
        }
        Ok(())
    }

    /// The files that are whole get their names, in their order, once the disk has them: it is
    /// waited for once and not for each. `None` for an item that had landed already.
    pub fn land(&mut self) -> Vec<Result<Option<String>, Declined>> {
        let whole = std::mem::take(&mut self.whole);
        let directory = self.shared.directory.directory();
        let synced = match &whole[..] {
            [] => return Vec::new(),
            // Others may have much more to sync than these.
            few if few.len() <= FEW => few.iter().try_for_each(|(file, _)| fsync(file)),
            _ => sync_all(directory),
        };
        if let Err(errno) = synced {
            return whole.iter().map(|_| Err(errno.into())).collect();
        }
        let Shared { directory: beneath, received, .. } = &*self.shared;
        let landed = landing::land(&whole, beneath, received, self.now_ms);
        match fsync(directory) {
            Ok(()) => landed,
            Err(errno) => landed.into_iter().map(|_| Err(errno.into())).collect(),
        }
    }

    /// It is whole. For a file and the last message of a folder: returns the name under which it
    /// landed, and stays through a power cut; waits for the disk. For others, and an item that had
    /// landed already, nothing, and it does not wait.
    ///
    /// # Errors
    /// [`Declined`]; what was there stays.
    pub fn end(&mut self) -> Result<Option<String>, Declined> {
        let directory = self.shared.directory.directory();
        match self.current.take().ok_or(Declined::Order)? {
            current @ Current::File(_) => {
                self.current = Some(current);
                self.set_whole()?;
                self.land().pop().unwrap_or(Ok(None))
            }
            Current::Again(landed) => Ok(landed),
            Current::Opening => {
                let started = self.folder.as_ref().is_some_and(IncomingFolder::started);
                if started { Ok(None) } else { Err(Declined::Order) }
            }
            Current::Entry(entry) => {
                let folder = self.folder.as_mut().ok_or(Declined::Order)?;
                folder.put(&self.shared.directory, entry).map(|()| None)
            }
            Current::Closing(mode, mtime) => {
                let folder = self.folder.take().ok_or(Declined::Order)?;
                let name = folder.land(directory, mode, mtime)?;
                fsync(directory)?;
                Ok(Some(name))
            }
        }
    }

    /// The sender gave up this message; its part stays, to be gone on with, and so does its folder.
    pub fn abort(&mut self) {
        if let Some(Current::File(file) | Current::Entry(Entry::File(file, _))) =
            self.current.take()
        {
            file.set_aside(&self.shared.directory);
        }
    }

    fn set_folder_aside(&mut self) {
        if let Some(folder) = self.folder.take() {
            folder.set_aside(self.shared.directory.directory());
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.abort();
        self.set_folder_aside();
    }
}
