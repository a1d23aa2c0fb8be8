//! A listener's UDP socket. A packet comes with the address that it was sent to, and its answer
//! leaves from there: on a machine with several addresses the system would choose another one, and
//! the sender would not know the answer for one.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::slice::from_mut;

use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

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

/// A socket, and whether it may have something to read.
pub struct Ear {
    socket: UdpSocket,
    state: UdpSocketState,
    /// It was not drained since it had news.
    pub readable: bool,
}

impl Ear {
    /// # Errors
    /// When the system does not tell for which address a packet came.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, readable: true })
    }

    /// Reads one packet, or several of the same length and route (the last may be shorter): their
    /// route, how long they are together, and how long each is.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&self, space: &mut [u8]) -> io::Result<(Route, usize, usize)> {
        let mut meta = RecvMeta::default();
        let mut slices = [IoSliceMut::new(space)];
        self.state.recv((&self.socket).into(), &mut slices, from_mut(&mut meta))?;
        let route = Route { from: meta.addr, asked: meta.dst_ip };
        Ok((route, meta.len, meta.stride.max(1)))
    }

    /// Answers a packet.
    ///
    /// # Errors
    /// What the system says.
    pub fn answer(&self, route: Route, bytes: &[u8]) -> io::Result<()> {
        let answer = Transmit {
            destination: route.from,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: route.asked,
        };
        self.state.try_send((&self.socket).into(), &answer)
    }
}
