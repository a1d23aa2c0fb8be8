//! As much of MQTT 3.1.1 as the comparison needs: a publisher and many subscribers at QoS 1.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// PUBLISH packets that may be unacknowledged, as for the relay's poster.
const WINDOW: usize = 1000;
const TOPIC: &[u8] = b"t";

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut len = body.len();
    loop {
        let byte = (len % 128) as u8;
        len /= 128;
        out.push(if len > 0 { byte | 128 } else { byte });
        if len == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn connect(at: SocketAddr, name: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(at)?;
    socket.set_nodelay(true)?;
    let mut body = b"\x00\x04MQTT\x04\x02\x00\x00".to_vec();
    body.extend_from_slice(&(name.len() as u16).to_be_bytes());
    body.extend_from_slice(name.as_bytes());
    socket.write_all(&packet(0x10, &body))?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer)?;
    if answer != [0x20, 2, 0, 0] {
        return Err(io::Error::other("CONNACK was not what was expected"));
    }
    Ok(socket)
}

/// Takes whole packets out of a stream of bytes.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    /// Hands each whole packet on: its first byte and its body.
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8])) {
        self.0.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((head, len)) = header(&self.0[at..]) {
            if self.0.len() - at < head + len {
                break;
            }
            each(self.0[at], &self.0[at + head..at + head + len]);
            at += head + len;
        }
        self.0.drain(..at);
    }
}

/// The length of the fixed header, and of what follows it.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for (i, byte) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 127) << (7 * i);
        if byte & 128 == 0 {
            return Some((2 + i, len));
        }
    }
    None
}

/// Publishes `count` messages of `len` bytes and waits for all PUBACKs.
fn publish(at: SocketAddr, count: usize, len: usize) -> io::Result<()> {
    let mut socket = connect(at, "publisher")?;
    let (mut sent, mut acked) = (0, 0);
    let mut packets = Packets::default();
    let mut space = vec![0; 64 * 1024];
    while acked < count {
        let mut batch = Vec::new();
        while sent < count && sent - acked < WINDOW && batch.len() < 64 * 1024 {
            let mut body = (TOPIC.len() as u16).to_be_bytes().to_vec();
            body.extend_from_slice(TOPIC);
            body.extend_from_slice(&((sent % 65_535) as u16 + 1).to_be_bytes());
            body.resize(body.len() + len, b'x');
            batch.extend_from_slice(&packet(0x32, &body));
            sent += 1;
        }
        socket.write_all(&batch)?;
        if sent - acked < WINDOW && sent < count {
            continue;
        }
        let n = socket.read(&mut space)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        packets.feed(&space[..n], |kind, _| acked += usize::from(kind == 0x40));
    }
    Ok(())
}

/// Messages a second that each of `subscribers` gets from one publisher.
pub fn rate(at: SocketAddr, subscribers: usize, count: usize, len: usize) -> io::Result<f64> {
    let mut sockets = Vec::new();
    for number in 0..subscribers {
        let mut socket = connect(at, &format!("subscriber{number}"))?;
        let mut body = vec![0, 1];
        body.extend_from_slice(&(TOPIC.len() as u16).to_be_bytes());
        body.extend_from_slice(TOPIC);
        body.push(1);
        socket.write_all(&packet(0x82, &body))?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer)?;
        socket.set_nonblocking(true)?;
        sockets.push((socket, Packets::default(), 0));
    }
    let began = Instant::now();
    let publisher = std::thread::spawn(move || publish(at, count, len));
    let mut space = vec![0; 256 * 1024];
    while sockets.iter().any(|(.., got)| *got < count) {
        let mut fds: Vec<_> = sockets
            .iter()
            .map(|(s, ..)| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN))
            .collect();
        poll(&mut fds, Some(&Duration::from_secs(30).try_into().map_err(io::Error::other)?))?;
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if !ready.iter().any(|r| *r) {
            return Err(io::Error::other("mosquitto fell silent"));
        }
        for ((socket, packets, got), _) in sockets.iter_mut().zip(ready).filter(|(_, r)| *r) {
            let Ok(n) = socket.read(&mut space) else { continue };
            let mut acks = Vec::new();
            packets.feed(&space[..n], |kind, body| {
                if kind & 0xf0 == 0x30 {
                    *got += 1;
                    let id = 2 + TOPIC.len();
                    acks.extend_from_slice(&packet(0x40, &body[id..id + 2]));
                }
            });
            socket.set_nonblocking(false)?;
            socket.write_all(&acks)?;
            socket.set_nonblocking(true)?;
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    publisher.join().map_err(|_| io::Error::other("the publisher panicked"))??;
    Ok(rate)
}
