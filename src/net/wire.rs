//! One socket and what its events have said: the re-arm rule of this layer in one place.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;

use super::low_water::set_receive_low_water;
use super::pipe::{Pipe, is_no_splice};
use crate::proto::stream::link::Link;

/// What is dropped at once of what a peer still sends, in reads of 16 KiB.
const DRAINED_READS: usize = 64;

/// What a stream in bulk gathers in the socket before an event tells of it, in bytes: to be woken for
/// each segment costs more than to read it.
const GATHERED: i32 = 512 * 1024;
/// So much within so short a time is a stream in bulk. What has gathered waits no longer than that for
/// the rest.
const BULK: (usize, Duration) = (512 * 1024, Duration::from_millis(1));

/// A connected socket, registered for both directions.
pub struct Wire {
    socket: TcpStream,
    /// The peer's address.
    pub address: SocketAddr,
    readable: bool,
    writable: bool,
    /// The peer closed or the connection broke: reading goes on until it says so.
    ending: bool,
    pace: Pace,
}

/// How fast a stream comes in.
enum Pace {
    /// So many bytes since then.
    Counting { bytes: usize, since: Duration },
    /// In bulk: the socket gathers [`GATHERED`] bytes, until then at the latest.
    Gathering { until: Duration },
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// The peer has closed it.
    Closed,
    /// It broke: a reset, or a network that is gone.
    Broken,
}

/// What became of bytes that were to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// The socket took all of them.
    All,
    /// It took some; an event tells when it takes more.
    Some,
    /// The peer is gone. What it said before is still to be read.
    Gone,
}

/// What is left to read of a connection that is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing now.
    Nothing,
    /// There may be more.
    More,
    /// The peer has closed it, or it broke.
    Closed,
}

impl Wire {
    /// A socket of which nothing is known yet: the first attempts tell.
    pub fn new(socket: TcpStream, address: SocketAddr) -> Self {
        Self {
            socket,
            address,
            readable: true,
            writable: true,
            ending: false,
            pace: Pace::Counting { bytes: 0, since: Duration::ZERO },
        }
    }

    /// Takes note of an event.
    pub fn on_event(&mut self, event: &Event) {
        self.ending |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ending;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Whether reading may bring something.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether it may take something.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Looks again at what no event has told: who was stopped for a while has not looked yet.
    pub fn look_again(&mut self) {
        self.readable = true;
    }

    /// The same for what it may take.
    pub fn try_again(&mut self) {
        self.writable = true;
    }

    /// Reads once.
    pub fn read(&mut self, space: &mut [u8]) -> Read {
        while self.readable {
            let brought = self.socket.read(space);
            let Some(read) = self.brought(brought) else { continue };
            if let Read::Bytes(n) = read {
                // A short read has emptied the socket; more of it will be a new event.
                self.readable = n == space.len() || self.ending;
            }
            return read;
        }
        Read::Later
    }

    /// Reads once, what is taken as a stream: if it comes in bulk, the socket gathers more of it before
    /// the next event, and [`Wire::deadline`] tells when to look for what is left.
    pub fn read_stream(&mut self, space: &mut [u8], now: Duration) -> Read {
        let read = self.read(space);
        if let Read::Bytes(n) = read {
            self.keep_pace(n, now);
        }
        read
    }

    fn keep_pace(&mut self, n: usize, now: Duration) {
        let (enough, time) = BULK;
        match &mut self.pace {
            Pace::Gathering { until } => *until = now + time,
            Pace::Counting { bytes, since } if now < *since + time => {
                *bytes += n;
                // Without the option more events come; slower, not wrong.
                if *bytes >= enough && set_receive_low_water(&self.socket, GATHERED).is_ok() {
                    self.pace = Pace::Gathering { until: now + time };
                }
            }
            Pace::Counting { bytes, since } => (*bytes, *since) = (n, now),
        }
    }

    /// When to [`Wire::end_gathering`], if nothing has told of what has gathered.
    pub fn deadline(&self) -> Option<Duration> {
        match self.pace {
            Pace::Gathering { until } if !self.readable => Some(until),
            _ => None,
        }
    }

    /// What has gathered has waited long enough for the rest: it was not so much.
    pub fn end_gathering(&mut self, now: Duration) {
        if self.deadline().is_some_and(|at| at <= now) {
            // What fails for a socket that is gone is told by the next read.
            let _ = set_receive_low_water(&self.socket, 1);
            self.pace = Pace::Counting { bytes: 0, since: now };
            self.readable = true;
        }
    }

    /// Reads into an empty pipe, `most` bytes at most; `None` where the system cannot.
    pub fn fill(&mut self, pipe: &mut Pipe, most: usize) -> Option<Read> {
        while self.readable {
            let brought = pipe.fill(&self.socket, most);
            if brought.as_ref().is_err_and(is_no_splice) {
                return None;
            }
            if let Some(read) = self.brought(brought) {
                return Some(read);
            }
        }
        Some(Read::Later)
    }

    /// What an attempt to read came to; `None`: look again whether there is another.
    fn brought(&mut self, attempt: io::Result<usize>) -> Option<Read> {
        let read = match attempt {
            Ok(n @ 1..) => return Some(Read::Bytes(n)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return None,
            Ok(0) => Some(Read::Closed),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(Read::Broken),
        };
        self.readable = false;
        read
    }

    /// Writes as much of the front of `bytes` as the socket takes: how much that was.
    ///
    /// # Errors
    /// When the peer is gone; what it said before is still to be read.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while self.writable && written < bytes.len() {
            let took = self.socket.write(&bytes[written..]);
            written += self.took(took)?;
        }
        Ok(written)
    }

    /// Writes as much of what is in a pipe as the socket takes: how much that was.
    ///
    /// # Errors
    /// As [`Wire::write`].
    pub fn empty(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        let mut written = 0;
        while self.writable && pipe.held() > 0 {
            let took = pipe.empty(&self.socket);
            written += self.took(took)?;
        }
        Ok(written)
    }

    /// How much an attempt to write came to.
    fn took(&mut self, attempt: io::Result<usize>) -> io::Result<usize> {
        match attempt {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                self.writable = false;
                self.readable = true;
                return Err(e);
            }
            taken => return taken,
        }
        Ok(0)
    }

    /// Writes what `link` has sealed.
    pub fn pour(&mut self, link: &mut Link) -> Wrote {
        if link.pending().is_empty() {
            return Wrote::All;
        }
        match self.write(link.pending()) {
            Ok(n) => {
                link.consumed(n);
                if link.pending().is_empty() { Wrote::All } else { Wrote::Some }
            }
            Err(_) => Wrote::Gone,
        }
    }

    /// Nothing more will be written.
    pub fn end_writing(&self) {
        // A peer that is gone already needs no goodbye.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads and drops what has come: a socket that is closed with bytes unread sends a reset.
    pub fn drain(&mut self) -> Left {
        let mut space = [0; 16 * 1024];
        self.readable = true;
        for _ in 0..DRAINED_READS {
            match self.read(&mut space) {
                Read::Bytes(_) => self.readable = true,
                Read::Later => return Left::Nothing,
                Read::Closed | Read::Broken => return Left::Closed,
            }
        }
        Left::More
    }

    /// The socket, for options.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}
