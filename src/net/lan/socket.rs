//! UDP sockets that speak to all hosts of a link.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::sockets::{allow_fragments, receive_singly};

/// Room for a round of probes and the answers to it. The system may give less.
const BUFFER: usize = 4 * 1024 * 1024;
/// How often another port is tried that both families have free.
const PORT_TRIES: usize = 16;

/// Pieces that are read at once.
const BATCH: usize = 16;
/// One of them, in bytes: the system may hand over dozens of packets in one piece.
const PIECE: usize = 64 * 1024;

/// Where pieces are read to. What is never touched is no memory.
pub struct Space([Vec<u8>; BATCH]);

impl Space {
    /// Room for one read.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| vec![0; PIECE]))
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a packet came from, and by which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Who sent it. A link-local address bears its link's number.
    pub from: SocketAddr,
    /// The address that it was sent to: ours, or everybody's.
    pub asked: Option<IpAddr>,
    /// The number of the link that it came by; 0 where the system does not tell.
    pub link: u32,
}

/// The IPv4 and the IPv6 socket of one port, either of which may be missing.
pub struct LanSockets {
    sockets: Vec<Half>,
    port: u16,
}

struct Half {
    v4: bool,
    socket: UdpSocket,
    state: UdpSocketState,
}

impl LanSockets {
    /// Sockets that hear what all hosts are told on `port`, beside others that do.
    ///
    /// # Errors
    /// What the system says when neither family can be had.
    pub fn shared(port: u16) -> io::Result<Self> {
        let v4 = bound(Ipv4Addr::UNSPECIFIED.into(), port, true);
        let v6 = bound(Ipv6Addr::UNSPECIFIED.into(), port, true);
        match (v4, v6) {
            (Err(e), Err(_)) => Err(e),
            (v4, v6) => Self::of([v4.ok(), v6.ok()], port),
        }
    }

    /// Sockets on a port of their own, the same for both families.
    ///
    /// # Errors
    /// As [`LanSockets::shared`].
    pub fn own() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..PORT_TRIES {
            let v4 = bound(Ipv4Addr::UNSPECIFIED.into(), 0, false)?;
            let port = v4.local_addr()?.as_socket().map_or(0, |address| address.port());
            match bound(Ipv6Addr::UNSPECIFIED.into(), port, false) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
                // A machine may be without IPv6.
                v6 => return Self::of([Some(v4), v6.ok()], port),
            }
        }
        Err(last)
    }

    fn of(sockets: [Option<Socket>; 2], port: u16) -> io::Result<Self> {
        let ready = |(v4, socket): (bool, Socket)| {
            let socket = UdpSocket::from_std(socket.into());
            let state = UdpSocketState::new((&socket).into())?;
            // It forbids them.
            allow_fragments(&socket);
            io::Result::Ok(Half { v4, socket, state })
        };
        let families = [true, false].into_iter().zip(sockets);
        let there = families.filter_map(|(v4, socket)| Some((v4, socket?)));
        let sockets = there.map(ready).collect::<Result<_, _>>()?;
        Ok(Self { sockets, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Watches them for packets, all under one token.
    ///
    /// # Errors
    /// What the system says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let watch =
            |half: &mut Half| registry.register(&mut half.socket, token, Interest::READABLE);
        self.sockets.iter_mut().try_for_each(watch)
    }

    /// Reads what came, about `most` pieces of each family, and hands every packet to `take`. Whether
    /// more may be there.
    pub fn receive(
        &self,
        most: usize,
        space: &mut Space,
        mut take: impl FnMut(&[u8], Way),
    ) -> bool {
        let mut more = false;
        for Half { socket, state, .. } in &self.sockets {
            let mut left = most;
            while left > 0 {
                let mut metas = [RecvMeta::default(); BATCH];
                let mut slices = space.0.each_mut().map(|piece| IoSliceMut::new(piece));
                let read = state.recv(socket.into(), &mut slices, &mut metas);
                match receive_singly(read, socket, &mut space.0[0], &mut metas[0]) {
                    Ok(count) => {
                        for (meta, piece) in metas.iter().zip(&space.0).take(count) {
                            let way = way(meta);
                            let packets = piece[..meta.len].chunks(meta.stride.max(1));
                            packets.for_each(|packet| take(packet, way));
                        }
                        left = left.saturating_sub(count);
                        if count < BATCH {
                            break;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // An error that an earlier packet drew; the socket is fine.
                    Err(_) => left -= 1,
                }
            }
            more |= left == 0;
        }
        more
    }

    /// Sends one packet, from `source` if that is given.
    ///
    /// # Errors
    /// What the system says; a packet that cannot be sent is as good as lost.
    pub fn send(&self, to: SocketAddr, source: Option<IpAddr>, packet: &[u8]) -> io::Result<()> {
        let half = self.sockets.iter().find(|half| half.v4 == to.is_ipv4());
        let half = half.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: packet,
            segment_size: None,
            src_ip: source,
        };
        half.state.try_send((&half.socket).into(), &transmit)
    }
}

/// A link-local source bears its link's number even if the system did not write it there.
fn way(meta: &RecvMeta) -> Way {
    let from = match meta.addr {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        other => SocketAddr::new(other.ip(), other.port()),
    };
    let scope = match from {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    Way { from, asked: meta.dst_ip, link: meta.interface_index.unwrap_or(scope) }
}

fn bound(ip: IpAddr, port: u16, shared: bool) -> io::Result<Socket> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    match ip {
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_hops_v6(1)?;
        }
        IpAddr::V4(_) => {
            socket.set_broadcast(true)?;
            socket.set_multicast_ttl_v4(1)?;
        }
    }
    if shared {
        share(&socket)?;
    }
    // The system's limit may be lower; it then gives what it has.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Several announcers live on one machine, and all hear what goes to everybody.
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    // Elsewhere the address alone is not enough; on Linux it would keep other users out.
    #[cfg(not(target_os = "linux"))]
    socket.set_reuse_port(true)?;
    Ok(())
}
