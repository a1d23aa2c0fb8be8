//! Word of links and addresses that come and go: from netlink, where the system has it and lets us.
//! Which one it was is not read: whoever is told looks at the links again.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Tells when links or their addresses may have changed.
pub struct LinkChanges(OwnedFd);

impl LinkChanges {
    /// Asks the system to be told, and watches for it under `token`.
    ///
    /// # Errors
    /// Where there is no netlink, or it is refused, as on Android: the caller looks now and then.
    pub fn watch(registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = subscribed()?;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(socket))
    }

    /// Forgets what was told so far.
    pub fn drain(&self) {
        let mut space = [0; 4096];
        // An overrun is an error once, and then there is more to read: it is news as well.
        let more = |got: Result<_, rustix::io::Errno>| match got {
            Err(e) => e == rustix::io::Errno::NOBUFS || e == rustix::io::Errno::INTR,
            Ok((len, _)) => len > 0,
        };
        while more(rustix::net::recv(&self.0, &mut space, rustix::net::RecvFlags::DONTWAIT)) {}
    }
}

#[cfg(target_os = "linux")]
fn subscribed() -> io::Result<OwnedFd> {
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

    // linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR.
    const GROUPS: u32 = 0x1 | 0x10 | 0x100;
    // No protocol is NETLINK_ROUTE, which is 0.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

#[cfg(not(target_os = "linux"))]
fn subscribed() -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
