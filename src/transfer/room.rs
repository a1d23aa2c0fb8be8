//! How much of the inbox's disk may be used up by what people send.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{StatVfs, fstatvfs};
use rustix::io::Errno;

use super::declined::Declined;

/// By default so many parts of a file system hold its reserve: one in 20.
const PARTS: u64 = 20;
/// The most bytes that are kept free by default: 1 GiB.
const MOST_BYTES: u64 = 1 << 30;
/// The most files for which there is room kept, on file systems that count them.
const MOST_FILES: u64 = 100_000;
/// What all sessions together may write before the disk is asked again, in bytes: what others write
/// meanwhile is noticed so late.
const GRANT: u64 = 1 << 20;

/// What stays free on the disk, whatever is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reserve {
    /// Nothing: the disk may become full.
    #[default]
    Nothing,
    /// A twentieth of it, 1 GiB at most; and a twentieth of its files, 100,000 at most.
    Share,
    /// So many bytes; of its files, as much as by default.
    Bytes(u64),
}

/// What may still be taken.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    bytes: u64,
    files: u64,
    /// The smallest room of a file that is not empty.
    block: u64,
}

impl Left {
    /// Of a disk that does not say how large it is.
    const UNKNOWN: Self = Self { bytes: u64::MAX, files: u64::MAX, block: 1 };
}

impl Reserve {
    /// What of `disk` may still be taken. A file system that says of itself that it has no blocks, or no
    /// files, does not count them.
    fn leaves(self, disk: &StatVfs) -> Left {
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        let kept_files = (disk.f_files / PARTS).min(MOST_FILES);
        let (bytes, files) = match self {
            Self::Nothing => (0, 0),
            Self::Share => ((size / PARTS).min(MOST_BYTES), kept_files),
            Self::Bytes(bytes) => (bytes, kept_files),
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let unless_unknown = |total, left| if total == 0 { u64::MAX } else { left };
        Left {
            bytes: unless_unknown(disk.f_blocks, free.saturating_sub(bytes)),
            files: unless_unknown(disk.f_files, disk.f_favail.saturating_sub(files)),
            block: disk.f_frsize.max(1),
        }
    }
}

/// The room on one disk, for all sessions.
#[derive(Debug)]
pub struct Room {
    reserve: Reserve,
    /// Bytes that may be written before the disk is asked again.
    granted: AtomicU64,
}

impl Room {
    /// All but `reserve`.
    pub fn beside(reserve: Reserve) -> Self {
        Self { reserve, granted: AtomicU64::new(0) }
    }

    /// Whether the disk of `directory` has room for `bytes` in `files` new files or folders.
    ///
    /// # Errors
    /// [`Declined::NoRoom`], [`Declined::Reserved`]; [`Declined::Disk`].
    pub fn check(&self, directory: &File, bytes: u64, files: u64) -> Result<(), Declined> {
        let left = self.left(directory)?;
        // Files take whole blocks: each new one takes one at least.
        let blocks = bytes.div_ceil(left.block).max(files);
        match blocks.saturating_mul(left.block) <= left.bytes && files <= left.files {
            true => Ok(()),
            false => Err(self.no_room()),
        }
    }

    /// Takes room for `bytes` that are about to be written.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn take(&self, directory: &File, bytes: u64) -> Result<(), Declined> {
        // Without a reserve the disk says itself when it is full.
        if self.reserve == Reserve::Nothing {
            return Ok(());
        }
        let spend = |granted: u64| granted.checked_sub(bytes);
        if self.granted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
            return Ok(());
        }
        let rest = self.left(directory)?.bytes.checked_sub(bytes);
        self.granted.store(rest.unwrap_or_default().min(GRANT), Ordering::Relaxed);
        rest.map(drop).ok_or_else(|| self.no_room())
    }

    fn left(&self, directory: &File) -> Result<Left, Declined> {
        match fstatvfs(directory) {
            // An emulator or a sandbox that does not tell: then the first write that fails does.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Left::UNKNOWN),
            disk => Ok(self.reserve.leaves(&disk?)),
        }
    }

    fn no_room(&self) -> Declined {
        match self.reserve {
            Reserve::Nothing => Declined::NoRoom,
            _ => Declined::Reserved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::StatVfsMountFlags;

    /// A disk of `blocks` and `files`, so many of which are free.
    fn disk((blocks, free): (u64, u64), (files, left): (u64, u64)) -> StatVfs {
        StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: blocks,
            f_bfree: free,
            f_bavail: free,
            f_files: files,
            f_ffree: left,
            f_favail: left,
            f_fsid: 0,
            f_flag: StatVfsMountFlags::empty(),
            f_namemax: 255,
        }
    }

    fn left(reserve: Reserve, blocks: (u64, u64), files: (u64, u64)) -> (u64, u64) {
        let left = reserve.leaves(&disk(blocks, files));
        (left.bytes, left.files)
    }

    #[test]
    fn a_twentieth_stays_free_and_of_a_large_disk_no_more_than_that() {
        assert_eq!(left(Reserve::Share, (1000, 100), (2000, 150)), (50 * 4096, 50));
        assert_eq!(left(Reserve::Share, (1000, 50), (2000, 100)), (0, 0));
        assert_eq!(left(Reserve::Share, (1000, 0), (2000, 0)), (0, 0));
        let large = 1 << 30;
        assert_eq!(
            left(Reserve::Share, (large, large), (large, large)),
            (large * 4096 - MOST_BYTES, large - MOST_FILES)
        );
        assert_eq!(left(Reserve::Bytes(8192), (1000, 100), (2000, 150)), (98 * 4096, 50));
        assert_eq!(left(Reserve::Nothing, (1000, 100), (2000, 150)), (100 * 4096, 150));
    }

    #[test]
    fn what_a_disk_does_not_count_is_unknown_and_not_full() {
        for reserve in [Reserve::Nothing, Reserve::Share, Reserve::Bytes(1 << 40)] {
            assert_eq!(left(reserve, (0, 0), (0, 0)), (u64::MAX, u64::MAX));
        }
        assert_eq!(left(Reserve::Share, (1000, 100), (0, 0)), (50 * 4096, u64::MAX));
        assert_eq!(left(Reserve::Share, (0, 0), (100, 50)), (u64::MAX, 45));
    }
}
