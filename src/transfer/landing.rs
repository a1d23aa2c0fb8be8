//! How files that are whole get their names, and what is to be done with those that a kill left
//! before that.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use super::beneath::Beneath;
use super::declined::Declined;
use super::part::{Part, PartKey, Parts};
use super::received::{Held, Received, Remembered};

/// Finds the parts in a directory, sweeps what was abandoned, and lands what only wants its name.
///
/// # Errors
/// What the system says. Without a record that can be read nothing is landed, and items will be
/// declined.
pub fn begin(
    directory: &Beneath,
    received: &Received,
    now_ms: u64,
) -> rustix::io::Result<Arc<Parts>> {
    let Ok(mut held) = received.hold(directory) else {
        return Parts::swept(directory, now_ms, |_, _| false).map(Arc::new);
    };
    let is_whole = |key, name: &str| held.get(key).is_some_and(|item| item.is_of(name));
    let parts = Arc::new(Parts::swept(directory, now_ms, is_whole)?);
    for part in parts.on_disk(directory, |key| held.get(key).is_some())? {
        if let Some(item) = held.get(part.key()) {
            // What fails is tried again when the item comes again.
            let _ = settle(&part, item, directory);
        }
    }
    // Nor does it matter if this fails: the record is longer than it need be.
    let _ = held.forget_expired(now_ms);
    Ok(parts)
}

/// An item that is remembered has come again: lands its part, if it is there still, and returns
/// the name.
///
/// # Errors
/// [`Declined::Disk`].
pub fn finish(
    key: PartKey,
    parts: &Arc<Parts>,
    directory: &Beneath,
    held: &Held<'_>,
) -> Result<Option<String>, Declined> {
    let mut landed = None;
    for part in parts.on_disk(directory, |found| found == key)? {
        if let Some(item) = held.get(key) {
            landed = settle(&part, item, directory)?.or(landed);
        }
    }
    Ok(landed)
}

/// The part that was whole gets its name; another, which somebody else began, goes, unless it is
/// written to. Whoever lands one holds the record, so here nobody does.
fn settle(part: &Part, item: Remembered, directory: &Beneath) -> Result<Option<String>, Declined> {
    let fd = directory.directory();
    if item.is_of(&part.name) {
        let stat = statat(fd, &part.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_mine = stat.st_uid == rustix::process::geteuid().as_raw();
        let is_ours = is_file && is_mine && stat.st_nlink == 1;
        return if is_ours { part.land(fd).map(Some) } else { Err(Errno::EXIST.into()) };
    }
    if part.taken(directory).is_ok() {
        part.remove(fd)?;
    }
    Ok(None)
}

/// Gives the parts of `whole`, which the disk has, their names, in their order. `None` for an item
/// that has landed already: another program brought it meanwhile.
pub fn land(
    whole: &[(File, Part)],
    directory: &Beneath,
    received: &Received,
    now_ms: u64,
) -> Vec<Result<Option<String>, Declined>> {
    let fd = directory.directory();
    let items = || whole.iter().map(|(_, part)| part).filter(|part| part.is_item);
    let held = match items().next() {
        None => return whole.iter().map(|(_, part)| part.land(fd).map(Some)).collect(),
        Some(_) => received.hold(directory).and_then(|mut held| {
            let is_new = |part: &&Part| held.get(part.key()).is_none();
            let new: Vec<&Part> = items().filter(is_new).collect();
            held.remember(new.iter().copied(), now_ms)?;
            Ok((held, new))
        }),
    };
    let landed = whole.iter().map(|(_, part)| match &held {
        Err(why) if part.is_item => {
            Err(Declined::from(io::Error::new(why.kind(), why.to_string())))
        }
        Ok((_, new)) if part.is_item && !new.iter().any(|item| item.key() == part.key()) => {
            part.remove(fd).map(|()| None).map_err(Declined::from)
        }
        _ => part.land(fd).map(Some),
    });
    landed.collect()
}
