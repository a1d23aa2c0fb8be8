//! Why the inbox does not take something.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::names::BadPath;
use crate::proto::stream::record::RefuseCode;

/// Why something is not taken, or not taken on.
#[derive(Debug)]
pub enum Declined {
    /// It is no file, or no entry of a folder that was begun.
    Kind,
    /// Longer than this many bytes, each or together.
    TooLarge(u64),
    /// The disk, or the quota, is full.
    NoRoom,
    /// The disk has no more room than what is kept free.
    Reserved,
    /// It has a name that could leave its folder.
    Name(BadPath),
    /// Its folder has an entry of that name already; on some file systems `A` is `a`.
    Exists,
    /// The same sender is sending the same thing in another session.
    Busy,
    /// It has not as many bytes as its sender said.
    Length,
    /// More came before it was said from where.
    Order,
    /// The disk said so.
    Disk(io::Error),
}

impl Declined {
    /// The code of REFUSE.
    pub fn code(&self) -> RefuseCode {
        match self {
            Self::Kind | Self::Name(_) => RefuseCode::NotWanted,
            Self::TooLarge(_) => RefuseCode::TooLarge,
            Self::NoRoom | Self::Reserved => RefuseCode::NoRoom,
            Self::Exists | Self::Busy | Self::Length | Self::Order | Self::Disk(_) => {
                RefuseCode::CannotWrite
            }
        }
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("not a file, or not of a folder that was begun"),
            Self::TooLarge(limit) => write!(f, "larger than {limit} bytes"),
            Self::NoRoom => f.write_str("no room on the disk"),
            Self::Reserved => f.write_str("no room on the disk beside what is kept free"),
            Self::Name(why) => why.fmt(f),
            Self::Exists => f.write_str("its folder has something of that name already"),
            Self::Busy => f.write_str("it is arriving in another session already"),
            Self::Length => f.write_str("it has not as many bytes as its sender said"),
            Self::Order => f.write_str("it did not begin where it should"),
            Self::Disk(why) => why.fmt(f),
        }
    }
}

impl From<io::Error> for Declined {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom,
            _ => Self::Disk(error),
        }
    }
}

impl From<Errno> for Declined {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<BadPath> for Declined {
    fn from(why: BadPath) -> Self {
        Self::Name(why)
    }
}
