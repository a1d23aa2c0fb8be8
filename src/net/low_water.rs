//! How much a socket gathers before it wakes us: `SO_RCVLOWAT`, socket(7).

use std::io;
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::SetSockOpt;

/// The option, whose value is in bytes.
#[derive(Clone)]
struct ReceiveLowWater;

nix::setsockopt_impl!(
    ReceiveLowWater,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32,
    nix::sys::socket::sockopt::SetStruct<i32>
);

/// An event tells that there is something to read once `bytes` are there, or the peer has closed
/// it. Linux makes the receive buffer as large as that takes.
///
/// # Errors
/// What the system says.
pub fn set_receive_low_water(socket: impl AsFd, bytes: i32) -> io::Result<()> {
    Ok(ReceiveLowWater.set(&socket, &bytes)?)
}
