//! A listener's UDP sockets. A packet comes with the address that it was sent to, and its answer
//! leaves from there: on a machine with several addresses the system would choose another one, and
//! the sender would not know the answer for one.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::slice::from_mut;

use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use crate::net::sockets::{allow_fragments, receive_singly};

/// Where a packet came from, and which address of ours it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    from: SocketAddr,
    asked: Option<IpAddr>,
}

impl Route {
    /// Where the packet came from.
    pub fn from(&self) -> SocketAddr {
        self.from
    }
}

/// UDP sockets, by number.
#[derive(Default)]
pub struct UdpEars(Vec<Ear>);

struct Ear {
    socket: UdpSocket,
    state: UdpSocketState,
    /// It was not drained since it had news.
    readable: bool,
}

/// One packet, or several of the same length and route, of which the last may be shorter.
pub struct Received {
    /// Their route.
    pub route: Route,
    /// How long they are together, in bytes.
    pub len: usize,
    /// How long each is, in bytes.
    pub each: usize,
}

impl UdpEars {
    /// Adds a socket.
    ///
    /// # Errors
    /// When the system does not tell for which address a packet came.
    pub fn add(&mut self, socket: UdpSocket) -> io::Result<()> {
        let state = UdpSocketState::new((&socket).into())?;
        // It forbids them.
        allow_fragments(&socket);
        self.0.push(Ear { socket, state, readable: true });
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes note of an event for socket number `ear`.
    pub fn on_event(&mut self, ear: usize) {
        if let Some(ear) = self.0.get_mut(ear) {
            ear.readable = true;
        }
    }

    /// Whether socket number `ear` may have something to read.
    pub fn is_readable(&self, ear: usize) -> bool {
        self.0[ear].readable
    }

    /// Whether any may have something to read.
    pub fn has_news(&self) -> bool {
        self.0.iter().any(|ear| ear.readable)
    }

    /// Reads from socket number `ear` what came in one piece: the system may hand over dozens of
    /// packets. `None` after an error that an earlier answer drew, too: the socket is fine, and
    /// stays readable, since a full one tells nothing new.
    pub fn receive(&mut self, ear: usize, space: &mut [u8]) -> Option<Received> {
        let Ear { socket, state, readable } = &mut self.0[ear];
        let mut meta = RecvMeta::default();
        let mut slices = [IoSliceMut::new(space)];
        let read = state.recv((&*socket).into(), &mut slices, from_mut(&mut meta));
        match receive_singly(read, socket, space, &mut meta) {
            Ok(_) => {
                let route = Route { from: meta.addr, asked: meta.dst_ip };
                Some(Received { route, len: meta.len, each: meta.stride.max(1) })
            }
            Err(e) => {
                *readable &= e.kind() != io::ErrorKind::WouldBlock;
                None
            }
        }
    }

    /// Answers a packet that came by socket number `ear`. A lost answer is asked for again.
    pub fn answer(&self, ear: usize, route: Route, bytes: &[u8]) {
        let answer = Transmit {
            destination: route.from,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: route.asked,
        };
        let Ear { socket, state, .. } = &self.0[ear];
        let _ = state.try_send(socket.into(), &answer);
    }
}
