//! What is on its way in one session, shown as it goes: a bar for people, `progress` for programs.

use std::time::{Duration, Instant};

use super::json::Event;
use super::outputs::Told;
use super::progress::Bar;
use super::sanitize::sanitize_line;
use crate::proto::stream::meta::{MessageKind, Meta};

/// How often programs are told.
const EVERY: Duration = Duration::from_secs(1);

/// Whose other end it is.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Its sender.
    From(String),
    /// Its recipient.
    To(String),
}

impl Peer {
    /// `from` and `to` of an event.
    pub fn fields(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::From(name) => (Some(name), None),
            Self::To(name) => (None, Some(name)),
        }
    }
}

/// Files and folders on their way.
pub struct Moving {
    peer: Peer,
    told: Told,
    /// Its bar says whose other end it is.
    named: bool,
    bar: Option<Bar>,
    /// The file or folder that began last.
    name: String,
    size: Option<u64>,
    bytes: u64,
    looked: Instant,
}

impl Moving {
    /// Nothing moves yet.
    pub fn new(peer: Peer, told: Told) -> Self {
        let (name, looked) = (String::new(), Instant::now());
        Self { peer, told, named: false, bar: None, name, size: None, bytes: 0, looked }
    }

    /// The same beside others.
    #[must_use]
    pub fn among_several(self) -> Self {
        Self { named: true, ..self }
    }

    /// A message begins. Entries of a folder are a part of it.
    pub fn begin(&mut self, meta: &Meta) {
        let name = meta.name.as_deref().unwrap_or_default();
        let within = meta.kind == MessageKind::DirectoryEntry as u8
            && (name.contains('/') || meta.size.is_none());
        if within {
            return;
        }
        name.clone_into(&mut self.name);
        (self.size, self.bytes) = (meta.size, 0);
        if let Some(bars) = &self.told.bars {
            let bar = self.bar.get_or_insert_with(|| bars.bar());
            let mut label = sanitize_line(name);
            if let ((Some(peer), _) | (_, Some(peer)), true) = (self.peer.fields(), self.named) {
                label = format!("{peer}: {label}");
            }
            bar.expect(&label, meta.size.unwrap_or_default());
        }
    }

    /// The rest of what is called `name` will not come.
    pub fn leave(&mut self, name: &str) {
        if name != self.name {
            return;
        }
        let rest = self.size.unwrap_or_default().saturating_sub(self.bytes);
        self.size = Some(self.bytes);
        if let Some(bar) = &mut self.bar {
            bar.forget(rest);
        }
    }

    /// So many bytes are there already.
    pub fn skip(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(bar) = &mut self.bar {
            bar.skip(bytes);
        }
    }

    /// So many bytes are on their way.
    pub fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(bar) = &mut self.bar {
            bar.advance(bytes);
        }
        if !self.told.reports.is_empty() && self.looked.elapsed() >= EVERY {
            self.looked = Instant::now();
            let (from, to) = self.peer.fields();
            let (name, bytes, size) = (self.name.as_str(), self.bytes, self.size);
            self.told.report(&Event::Progress { from, to, name, bytes, size });
        }
    }
}
