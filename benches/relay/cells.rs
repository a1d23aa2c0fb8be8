//! Clients of a relay that seal no packet and open none: so it is the relay that is measured.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anonchat::crypto::sodium::{KeyPair, random};
use anonchat::keys::Contact;
use anonchat::proto::datagram::packet::PACKET_LEN;
use anonchat::proto::relay::cell::{Cell, Command};
use anonchat::proto::relay::link::CellLink;
use anonchat::proto::relay::mailbox::{Channel, Mailbox, Reader, epoch};
use anonchat::proto::stream::session::plain_buffer;
use anonchat::proto::time::Now;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};

use super::shake::{failed, shake};

/// POSTs that may be unconfirmed, as for the publisher of the comparison.
const WINDOW: u64 = 1000;
/// A reader frees what it has read this often.
const ACK_EVERY: u64 = 64;

/// A moment; the links here have no timers.
pub fn now() -> Now {
    let unix = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis() as u64);
    Now { unix_ms: unix, mono: Duration::ZERO }
}

/// A blocking link to a relay.
pub struct Client {
    /// The connection.
    pub socket: TcpStream,
    link: CellLink,
    challenge: [u8; 32],
}

impl Client {
    /// Links to the relay of that public key file.
    pub fn connect(relay: &Contact, at: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(at)?, relay)
    }

    /// The same from that address of this machine.
    pub fn connect_from(from: IpAddr, relay: &Contact, at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&at.into())?;
        Self::over(socket.into(), relay)
    }

    fn over(mut socket: TcpStream, relay: &Contact) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let me = KeyPair::generate();
        let (session, welcome) = shake(&mut socket, &me, relay, &mut plain_buffer())?;
        let challenge = welcome.challenge.ok_or_else(|| io::Error::other("no challenge"))?;
        Ok(Self { socket, link: CellLink::new(session, now()), challenge })
    }

    /// Queues and writes one cell.
    pub fn send(&mut self, cell: &Cell<'_>) -> io::Result<()> {
        self.queue(cell);
        self.flush()
    }

    /// Queues one cell.
    pub fn queue(&mut self, cell: &Cell<'_>) {
        self.link.send(cell, now());
    }

    /// Writes what is queued.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(self.link.pending())?;
        let len = self.link.pending().len();
        self.link.consumed(len);
        Ok(())
    }

    /// Asks to read `mailbox` of `key`.
    pub fn subscribe(&mut self, key: &KeyPair, mailbox: &Mailbox) -> io::Result<()> {
        let reader = Reader::new(key, &self.challenge);
        let proof = reader.and_then(|r| r.prove(mailbox, self.link.handshake_hash()));
        let proof = proof.ok_or_else(|| io::Error::other("no proof"))?;
        let cell = Cell { address: mailbox.address, body: &proof, ..Cell::new(Command::Subscribe) };
        self.send(&cell)
    }

    /// Reads once, and hands each cell on.
    pub fn read(&mut self, space: &mut [u8], mut each: impl FnMut(&Cell<'_>)) -> io::Result<()> {
        let n = self.socket.read(space)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fed = self.link.feed(&space[..n], now(), |cell| {
            each(cell);
            Ok(())
        });
        fed.map_err(failed("the relay broke the protocol"))
    }

    /// Reads until a cell of this command has come.
    pub fn wait_for(&mut self, command: Command) -> io::Result<()> {
        let mut space = [0; 64 * 1024];
        let mut came = false;
        while !came {
            self.read(&mut space, |cell| came |= cell.command == command)?;
        }
        Ok(())
    }
}

/// A mailbox of a fresh key, and the key.
pub fn mailbox() -> io::Result<(KeyPair, Mailbox)> {
    let key = KeyPair::generate();
    let mailbox = Channel::open(&random()).at(key.public(), epoch(now().unix_ms));
    Ok((key, mailbox.ok_or_else(|| io::Error::other("no mailbox"))?))
}

/// Posts `count` packets to the `addresses` in turn, and waits until all are confirmed.
fn post(mut client: Client, addresses: &[[u8; 32]], count: u64) -> io::Result<()> {
    let packet: [u8; PACKET_LEN] = random();
    let (mut sent, mut acked) = (0, 0);
    let mut space = vec![0; 64 * 1024];
    while acked < count {
        while sent < count && sent - acked < WINDOW && client.link.pending().len() < 64 * 1024 {
            let address = addresses[sent as usize % addresses.len()];
            client.link.send(&Cell::post(sent, address, &packet), now());
            sent += 1;
        }
        client.flush()?;
        if sent - acked < WINDOW && sent < count {
            continue;
        }
        let mut refused = 0;
        client.read(&mut space, |cell| match cell.command {
            Command::Ack => acked += 1,
            Command::Error => refused += 1,
            _ => {}
        })?;
        if refused > 0 {
            return Err(io::Error::other("the relay refused a POST"));
        }
    }
    Ok(())
}

/// Cells a second that each of `readers` gets of one mailbox from one poster. A group's readers free
/// nothing.
pub fn rate(relay: &Contact, at: SocketAddr, readers: usize, count: u64) -> io::Result<f64> {
    let (key, mailbox) = mailbox()?;
    let mut clients = Vec::new();
    for _ in 0..readers {
        let mut client = Client::connect(relay, at)?;
        client.subscribe(&key, &mailbox)?;
        client.wait_for(Command::Live)?;
        client.socket.set_nonblocking(true)?;
        clients.push((client, 0));
    }
    let poster = Client::connect(relay, at)?;
    let address = mailbox.address;
    let began = Instant::now();
    let poster = std::thread::spawn(move || post(poster, &[address], count));
    let mut space = vec![0; 256 * 1024];
    while clients.iter().any(|(_, got)| *got < count) {
        for index in ready(clients.iter().map(|(client, _)| &client.socket))? {
            let (client, got) = &mut clients[index];
            read_and_free(client, got, &mut space, readers == 1)?;
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    poster.join().map_err(failed("the poster panicked"))??;
    Ok(rate)
}

fn read_and_free(
    client: &mut Client,
    got: &mut u64,
    space: &mut [u8],
    frees: bool,
) -> io::Result<()> {
    let before = *got;
    let mut last = None;
    let read = client.read(space, |cell| {
        if cell.command == Command::Cell {
            *got += 1;
            last = Some((cell.id, cell.log, cell.address));
        }
    });
    match read {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        other => other?,
    }
    if let Some((id, log, address)) = last
        && frees
        && before / ACK_EVERY != *got / ACK_EVERY
    {
        client.socket.set_nonblocking(false)?;
        client.send(&Cell { id, log, address, ..Cell::new(Command::Ack) })?;
        client.socket.set_nonblocking(true)?;
    }
    Ok(())
}

fn ready<'a>(sockets: impl Iterator<Item = &'a TcpStream>) -> io::Result<Vec<usize>> {
    let mut fds: Vec<_> =
        sockets.map(|s| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)).collect();
    poll(&mut fds, Some(&Duration::from_secs(30).try_into().map_err(io::Error::other)?))?;
    let ready: Vec<_> = (0..fds.len()).filter(|i| !fds[*i].revents().is_empty()).collect();
    if ready.is_empty() {
        return Err(io::Error::other("the relay fell silent"));
    }
    Ok(ready)
}

/// Cells a second that a relay takes into `mailboxes` mailboxes, in turn, and holds.
pub fn held_rate(relay: &Contact, at: SocketAddr, mailboxes: usize, count: u64) -> io::Result<f64> {
    // Any point will do for an address, as far as a poster is concerned.
    let seed = mailbox()?.1.address;
    let addresses: Vec<_> = (0..mailboxes as u64)
        .map(|n| {
            let mut address = seed;
            address[8..16].copy_from_slice(&n.to_be_bytes());
            address
        })
        .collect();
    // Each comes into being with its first cell, which is no part of what a cell costs.
    post(Client::connect(relay, at)?, &addresses, mailboxes as u64)?;
    let poster = Client::connect(relay, at)?;
    let began = Instant::now();
    post(poster, &addresses, count)?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
