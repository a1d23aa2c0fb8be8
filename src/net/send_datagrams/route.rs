//! Which of a peer's addresses is spoken to, and by which socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Interest, Token};
use rustix::io::Errno;

use crate::net::dial::{DialError, NoProof, no_address};
use crate::net::hub::Hub;
use crate::net::send::SendError;
use crate::net::sockets::Bind;
use crate::proto::time::Now;

/// The addresses of a peer, and the socket to the one that is tried.
pub(super) struct Route {
    token: Token,
    untried: std::vec::IntoIter<SocketAddr>,
    current: Option<(UdpSocket, SocketAddr)>,
    /// Until when a proof must have come from the current address.
    pub until: Duration,
    /// How long all addresses together may take.
    pub patience: Duration,
    share: Duration,
    failure: Option<DialError>,
}

impl Route {
    /// To `addresses`, in turn, by sockets that register as `token`.
    pub fn new(addresses: Vec<SocketAddr>, now: Now, patience: Duration, token: Token) -> Self {
        let share = patience / (addresses.len().max(1) as u32);
        let untried = addresses.into_iter();
        Self { token, untried, current: None, until: now.mono, patience, share, failure: None }
    }

    /// When the current address was first tried, or its time began anew.
    pub fn since(&self) -> Duration {
        self.until.saturating_sub(self.share)
    }

    /// The socket, connected to the address that is tried.
    pub fn socket(&mut self, hub: &Hub) -> Result<&mut UdpSocket, SendError> {
        while self.current.is_none() {
            let Some(address) = self.untried.next() else {
                let failure = self.failure.take().unwrap_or_else(no_address);
                return Err(SendError::Dial(failure));
            };
            self.until = hub.clock.now().mono + self.share;
            match connect(hub, address, self.token) {
                Ok(socket) => self.current = Some((socket, address)),
                Err(e) => self.give_up(DialError::refused(address, e)),
            }
        }
        match &mut self.current {
            Some((socket, _)) => Ok(socket),
            None => unreachable!("the loop above ends with a socket"),
        }
    }

    /// The current address failed: the next one is tried.
    pub fn give_up(&mut self, failure: DialError) {
        self.failure = Some(failure.or_better(self.failure.take()));
        self.current = None;
    }

    pub fn address(&self) -> SocketAddr {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.current.as_ref().map_or(nowhere, |(_, address)| *address)
    }

    /// Nothing is asked of the current address: its time for a proof has not begun.
    pub fn restart(&mut self, now: Now) {
        self.until = now.mono + self.share;
    }

    /// Nobody has proved anything yet: is it time for the next address?
    pub fn check_proof(&mut self, now: Now) {
        if self.current.is_some() && now.mono >= self.until {
            self.give_up(DialError::NoProof(self.address(), NoProof::Silence(self.patience)));
        }
    }
}

/// A socket that is registered as `token` and sends to `address` alone.
pub(in crate::net) fn connect(
    hub: &Hub,
    address: SocketAddr,
    token: Token,
) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut socket = Bind::At(SocketAddr::new(any, 0)).udp()?;
    socket.connect(address)?;
    hub.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}

/// A full buffer passes, and the system learns how large a packet the path takes; that nobody
/// listens, or that there is no route, does not.
pub(super) fn is_final(e: &io::Error) -> bool {
    let passes = [Errno::NOBUFS, Errno::MSGSIZE].map(|errno| Some(errno.raw_os_error()));
    !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        && !passes.contains(&e.raw_os_error())
}
