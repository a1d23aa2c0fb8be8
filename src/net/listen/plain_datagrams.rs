//! Datagrams without encryption: each is a message of its own, because nothing says which belong
//! together or whether one was lost.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use super::conn::Shared;
use super::ear::{Received, UdpEars};
use super::plain::heard;
use super::{Heard, Notice, Stage};
use crate::net::sockets::{Transport, canonical};
use crate::proto::stream::link::Crossing;
use crate::proto::time::Now;
use crate::sched::party::Source;

/// Reads before others have their turn.
const READS_A_TURN: usize = 64;
/// Messages that wait for the output, at most: more of them stay with the system, which drops them
/// when its buffer is full. One read may bring up to 64.
const MAX_HELD: usize = 1024;

/// Everything of a listener that has to do with datagrams that are not encrypted.
#[derive(Default)]
pub struct PlainDatagrams {
    ears: UdpEars,
    /// Those that the output has not flushed.
    held: BTreeMap<Source, Heard>,
    /// How many came so far.
    count: u64,
    /// Some came since the last look.
    news: bool,
}

impl PlainDatagrams {
    /// Adds a socket.
    ///
    /// # Errors
    /// When the system does not tell for which address a packet came.
    pub fn add(&mut self, socket: UdpSocket) -> io::Result<()> {
        self.ears.add(socket)
    }

    /// How many sockets there are.
    pub fn count(&self) -> usize {
        self.ears.count()
    }

    /// Takes note of an event for socket number `ear`.
    pub fn on_event(&mut self, ear: usize) {
        self.ears.on_event(ear);
    }

    /// Whether some were left so that others have their turn.
    pub fn has_more(&self, shared: &Shared<'_>) -> bool {
        self.has_room(shared) && self.ears.has_news()
    }

    /// Whether any waits for the output.
    pub fn is_busy(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether any came since the last call.
    pub fn heard_message(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    fn next(&self) -> Source {
        Source::PlainDatagram(self.count)
    }

    fn has_room(&self, shared: &Shared<'_>) -> bool {
        self.held.len() < MAX_HELD && shared.mux.has_room(self.next())
    }

    /// Reads what came, up to a limit.
    pub fn drive(
        &mut self,
        now: Now,
        space: &mut [u8],
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        for ear in 0..self.ears.count() {
            for _ in 0..READS_A_TURN {
                if !self.ears.is_readable(ear) || !self.has_room(shared) {
                    break;
                }
                let came = self.ears.receive(ear, space);
                let Some(Received { route, len, each }) = came else { continue };
                for datagram in space[..len].chunks(each) {
                    self.take(datagram, route.from(), now, shared, stage);
                }
            }
        }
    }

    fn take(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Now,
        shared: &mut Shared<'_>,
        stage: &mut dyn Stage,
    ) {
        if shared.trace {
            shared.host.notice(Notice::Crossed(&Crossing::unsealed(false, datagram)));
        }
        let caller = shared.host.unproven(canonical(from));
        let heard = heard(caller, Transport::Udp, now);
        let source = self.next();
        shared.mux.begin(source, heard.clone(), now.mono);
        shared.mux.data(source, datagram, now.mono, stage);
        shared.mux.end(source);
        self.held.insert(source, heard);
        self.count += 1;
        self.news = true;
    }

    /// The output has flushed one.
    pub fn flushed(&mut self, source: Source, total: u64, shared: &mut Shared<'_>) {
        if let Some(heard) = self.held.remove(&source) {
            shared.host.notice(Notice::Delivered(&heard, total));
        }
    }
}
