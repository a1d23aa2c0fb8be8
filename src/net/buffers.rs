//! How much the kernel holds for a connection: `SO_SNDBUF` and `SO_RCVBUF`, socket(7), and
//! `TCP_NOTSENT_LOWAT`, tcp(7).

use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::SetSockOpt;
use socket2::SockRef;

/// What is asked for in each direction of a bounded socket, in bytes. The kernel takes twice as much,
/// for what it needs besides: 270 KB of what is sent is what may really lie there.
const BOUND: usize = 128 * 1024;
/// What a socket takes that is not on its way yet, in bytes, and as much as one segment more. With a
/// quarter of it a connection within one machine is slower.
const UNSENT: u32 = 1024 * 1024;
/// Where the kernel cannot be asked to choose again: as much as it gives.
const PLENTY: usize = 4 * 1024 * 1024;

/// `SO_BUF_LOCK` of Linux 5.14 and later: whether the sizes of the buffers are the user's.
#[derive(Clone)]
struct BufferLock;

nix::setsockopt_impl!(
    BufferLock,
    libc::SOL_SOCKET,
    SO_BUF_LOCK,
    i32,
    nix::sys::socket::sockopt::SetStruct<i32>
);

/// It has this number where Linux runs today, but for SPARC and PA-RISC; libc does not know it yet.
const SO_BUF_LOCK: libc::c_int = 72;

/// The socket holds [`BOUND`] bytes in each direction at most.
pub fn bound(socket: impl AsFd) {
    let socket = SockRef::from(&socket);
    // With larger ones, and the system's bound, it works as well.
    let _ = socket.set_send_buffer_size(BOUND);
    let _ = socket.set_recv_buffer_size(BOUND);
}

/// The system chooses again how much is on its way, by how fast the connection is; what is not on its
/// way stays bounded.
pub fn unbound(socket: impl AsFd) {
    bound_unsent(&socket);
    if BufferLock.set(&socket, &0).is_err() {
        let socket = SockRef::from(&socket);
        let _ = socket.set_send_buffer_size(PLENTY);
        let _ = socket.set_recv_buffer_size(PLENTY);
    }
}

/// Who does not read has [`UNSENT`] bytes waiting at most.
pub fn bound_unsent(socket: impl AsFd) {
    // Without it more waits, up to the system's bound.
    let _ = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT);
}
