//! Sockets as the programs want them, bound and ready for mio.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use quinn_udp::RecvMeta;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, if the system lets so many wait (`net.core.somaxconn`): whoever
/// finds no room there tries again after a second.
const BACKLOG: i32 = 4096;
/// Room for a burst of datagrams: 64 fragments of many senders. The system may give less.
const DATAGRAM_BUFFER: usize = 4 * 1024 * 1024;

/// What carries a session or a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A stream (PROTOCOL.md, section 3).
    Tcp,
    /// Datagrams (PROTOCOL.md, section 4).
    Udp,
    /// The same packets in a file (PROTOCOL.md, section 4.6).
    File,
    /// A relay: its cells, or a circuit (PROTOCOL.md, section 5).
    Relay,
}

impl Transport {
    /// `tcp`, `udp`, `file` or `relay`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::File => "file",
            Self::Relay => "relay",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where to listen. Port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// At every IPv4 and IPv6 address, on this port.
    Everywhere(u16),
    /// At this address; a link-local one bears its link's number.
    At(SocketAddr),
}

impl Bind {
    /// The address: `[::]` for every address of both families.
    pub fn address(&self) -> SocketAddr {
        match *self {
            Self::At(address) => address,
            Self::Everywhere(port) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        }
    }

    /// A listening TCP socket.
    ///
    /// # Errors
    /// What the system says: in use, not permitted, no such address.
    pub fn tcp(&self) -> io::Result<mio::net::TcpListener> {
        let socket = self.socket(Type::STREAM, Protocol::TCP)?;
        socket.listen(BACKLOG)?;
        Ok(mio::net::TcpListener::from_std(socket.into()))
    }

    /// A UDP socket.
    ///
    /// # Errors
    /// As [`Bind::tcp`].
    pub fn udp(&self) -> io::Result<mio::net::UdpSocket> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        // The system's limit may be lower; it then gives what it has.
        let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
        let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER);
        allow_fragments(&socket);
        Ok(mio::net::UdpSocket::from_std(socket.into()))
    }

    fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        match *self {
            Self::At(address) => bound(address, kind, protocol),
            Self::Everywhere(port) => {
                let v4_only = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
                match bound(self.address(), kind, protocol) {
                    // A machine without IPv6.
                    Err(e) if no_such_family(&e) => bound(v4_only, kind, protocol),
                    other => other,
                }
            }
        }
    }
}

fn no_such_family(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let raw = e.raw_os_error();
    raw == Some(Errno::AFNOSUPPORT.raw_os_error())
        || raw == Some(Errno::ADDRNOTAVAIL.raw_os_error())
}

fn bound(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Lets packets of a UDP socket be fragmented on their way by IPv4. All of ours have 1200 bytes, and a
/// path that takes less has no other way for them; otherwise the first one is lost on it, and all are
/// where nothing tells us of that. IPv6 takes 1280 bytes everywhere.
pub fn allow_fragments(socket: impl AsFd) {
    // A system that cannot be asked does what it does.
    let _ = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT);
}

/// An IPv4 address that an IPv6 socket saw, as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, address.port()),
        // With its link's number, if it has one.
        _ => address,
    }
}

/// The machine's own addresses, loopback and link-local ones left out.
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces
        .into_iter()
        .filter(|i| !i.is_loopback() && !i.is_link_local())
        .map(|i| i.ip())
        .collect()
}

/// Reads one datagram where the system has no recvmmsg(2), which `read` found out: some emulators and
/// sandboxes. To which address it came nobody tells there.
///
/// # Errors
/// What `read` said, or the system.
pub fn receive_singly(
    read: io::Result<usize>,
    socket: &mio::net::UdpSocket,
    space: &mut [u8],
    meta: &mut RecvMeta,
) -> io::Result<usize> {
    match read {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) => {
            let (len, addr) = socket.recv_from(space)?;
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (addr, len, len);
            Ok(1)
        }
        read => read,
    }
}
