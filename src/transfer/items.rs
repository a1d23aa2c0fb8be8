//! Small files as single messages, for a recipient that need not be there. PROTOCOL.md, 5.4.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::batch::Missing;
use super::feed::{Event, Witness};
use super::outbox::{Outgoing, Source};
use crate::crypto::sodium::random;
use crate::net::clock::Clock;
use crate::net::send::SendError;
use crate::net::via::post::Letters;
use crate::proto::datagram::packet::{Kind, MAX_MESSAGE, MessageId};
use crate::proto::relay::posting::Letter;
use crate::proto::stream::meta::Meta;

/// What META takes beside the name, with its own length in front, in bytes: more than it ever does.
const META_ROOM: usize = 96;

/// Whether all that is at `paths` and can be read is files of which each fits one message.
pub fn fit(paths: &[PathBuf]) -> bool {
    let fits = |path: &PathBuf| match path.metadata() {
        Ok(found) => found.is_file() && found.len() as usize + room(path) <= MAX_MESSAGE,
        // Its failure is told wherever it is opened.
        Err(_) => true,
    };
    paths.iter().all(fits)
}

/// What stands before the content of the file at `path`, at most: a byte of its name that is no text
/// becomes three.
fn room(path: &Path) -> usize {
    META_ROOM + 3 * path.file_name().map_or(255, |name| name.len())
}

/// A list of small files, one message each.
pub struct Items {
    paths: VecDeque<PathBuf>,
    witness: Witness,
    clock: Clock,
    current: Option<Current>,
}

/// The file that is on its way.
struct Current {
    id: [u8; 16],
    name: String,
    bytes: u64,
}

impl Items {
    /// What lies at `paths`, of which all [`fit`]. `witness` hears what becomes of it.
    pub fn new(paths: Vec<PathBuf>, witness: Witness) -> Self {
        Self { paths: paths.into(), witness, clock: Clock::default(), current: None }
    }

    /// The file at `path` as a message.
    fn letter(&mut self, path: &Path) -> io::Result<Letter> {
        let Source::File(mut file) = Source::open(path)? else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it became a folder"));
        };
        let id = MessageId { run: random(), sequence: 0 };
        // Each is a run of its own: any may be the last that is waited for.
        let meta = file.meta(id.to_bytes(), self.clock.now().unix_ms);
        let body = body(&meta, &mut file)?;
        let bytes = meta.size.unwrap_or(0);
        (self.witness)(Event::Begun(&meta));
        self.current = Some(Current { id: meta.id, name: file.name, bytes });
        Ok(Letter { kind: Kind::Item, id, body })
    }
}

/// `length u16 ‖ META ‖ content`.
fn body(meta: &Meta, file: &mut Outgoing) -> io::Result<Vec<u8>> {
    let meta = meta.encode();
    let mut body = (meta.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(&meta);
    let start = body.len();
    body.resize(MAX_MESSAGE.max(start), 0);
    let mut end = start;
    loop {
        match file.read(&mut body[end..]) {
            Ok(0) => break,
            Ok(len) => end += len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if file.size != Some((end - start) as u64) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it became larger"));
    }
    body.truncate(end);
    Ok(body)
}

impl Letters for Items {
    fn next(&mut self) -> Option<Letter> {
        while let Some(path) = self.paths.pop_front() {
            match self.letter(&path) {
                Ok(letter) => return Some(letter),
                Err(error) => {
                    let missing = Missing::Unreadable(error);
                    (self.witness)(Event::Missing(&path.to_string_lossy(), &missing));
                }
            }
        }
        None
    }

    fn settled(&mut self, result: &Result<(), SendError>) {
        let Some(Current { id, name, bytes }) = self.current.take() else { return };
        let name = name.as_str();
        match result {
            Ok(()) => {
                (self.witness)(Event::Moved(bytes));
                let entries = None;
                (self.witness)(Event::Delivered { id, name, bytes, resumed: 0, entries });
            }
            Err(SendError::Declined(code, text)) => {
                (self.witness)(Event::Declined { id, name, code: *code, text });
            }
            Err(SendError::Queued(held)) => (self.witness)(Event::Queued { id, name, held }),
            // Said of all of them.
            Err(_) => {}
        }
    }
}
