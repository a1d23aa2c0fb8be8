//! Bytes through a circuit of a relay, and through socat as a middle.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::random;
use anonchat::keys::Contact;
use anonchat::proto::relay::cell::{Cell, Command as Cmd};

use super::cells::Client;
use super::peers::free_port;
use super::programs::Running;

/// One write, in bytes.
const CHUNK: usize = 256 * 1024;

/// MB/s from `from` to `to`.
fn carry(mut from: TcpStream, mut to: TcpStream, bytes: u64) -> io::Result<f64> {
    let began = Instant::now();
    let writer = std::thread::spawn(move || -> io::Result<TcpStream> {
        let chunk = vec![b'x'; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let len = left.min(CHUNK as u64);
            from.write_all(&chunk[..len as usize])?;
            left -= len;
        }
        Ok(from)
    });
    let mut space = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        match to.read(&mut space)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => left -= n as u64,
        }
    }
    let rate = bytes as f64 / 1e6 / began.elapsed().as_secs_f64();
    writer.join().map_err(|_| io::Error::other("the writer panicked"))??;
    Ok(rate)
}

/// By a circuit.
pub fn by_relay(relay: &Contact, at: SocketAddr, bytes: u64) -> io::Result<f64> {
    let rendezvous: [u8; 32] = random();
    let mut ends = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(relay, at)?;
        client.send(&Cell { body: &rendezvous, ..Cell::new(Cmd::Connect) })?;
        ends.push(client);
    }
    for end in &mut ends {
        end.wait_for(Cmd::Joined)?;
    }
    let mut sockets = ends.into_iter().map(|end| end.socket);
    match (sockets.next(), sockets.next()) {
        (Some(from), Some(to)) => carry(from, to, bytes),
        _ => unreachable!("two ends"),
    }
}

/// By `socat TCP-LISTEN TCP`, in its defaults.
pub fn by_socat(bytes: u64) -> io::Result<f64> {
    let at = free_port()?;
    let end = TcpListener::bind("127.0.0.1:0")?;
    let socat = Command::new("socat")
        .arg(format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr", at.port()))
        .arg(format!("TCP:{}", end.local_addr()?))
        .stdin(Stdio::null())
        .spawn()?;
    let _socat = Running(socat);
    let began = Instant::now();
    let from = loop {
        match TcpStream::connect(at) {
            Ok(socket) => break socket,
            Err(e) if began.elapsed() > Duration::from_secs(10) => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    carry(from, end.accept()?.0, bytes)
}
