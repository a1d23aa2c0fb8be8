//! Where ac-listen listens: its operands, and the sockets that they ask for.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, UdpSocket};

use crate::cli::failure::{self, Failure, NO_ZONE};
use crate::net::lan::links::lacks_zone;
use crate::net::resolve;
use crate::net::sockets::{Bind, Transport};

/// An operand of ac-listen: where to listen.
#[derive(Debug, Clone)]
pub struct BindWord {
    text: String,
    binds: Vec<Bind>,
}

impl BindWord {
    /// Every address of the machine.
    pub fn everywhere(port: u16) -> Self {
        Self { text: port.to_string(), binds: vec![Bind::Everywhere(port)] }
    }

    /// The addresses that it names.
    pub fn binds(&self) -> &[Bind] {
        &self.binds
    }
}

/// Reads an operand.
///
/// # Errors
/// What a user should read about it.
pub fn bind(text: &str) -> Result<BindWord, String> {
    let all = |port| vec![Bind::Everywhere(port)];
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let port = text.parse::<u16>().ok().filter(|_| digits);
        port.ok_or_else(|| "a port is a number from 0 to 65535".to_owned())
    };
    let binds = match text.rsplit_once(':') {
        None => all(port(text)?),
        Some(("" | "*", last)) => all(port(last)?),
        Some((host, last)) => on_host(host, port(last)?)?,
    };
    Ok(BindWord { text: text.to_owned(), binds })
}

/// Every address of a host of this machine.
fn on_host(host: &str, port: u16) -> Result<Vec<Bind>, String> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err("an IPv6 address stands in brackets: [IPV6]:PORT".into());
    }
    let found = resolve::ask(bare.unwrap_or(host), port).map_err(|e| e.to_string())?;
    Ok(found.into_iter().map(Bind::At).collect())
}

/// The sockets that the operands ask for.
#[derive(Default)]
pub struct Sockets {
    /// Those for streams.
    pub tcp: Vec<TcpListener>,
    /// Those for datagrams.
    pub udp: Vec<UdpSocket>,
}

impl Sockets {
    /// Binds every address of every operand.
    ///
    /// # Errors
    /// [`Code::Local`](failure::Code::Local), with the operand that cannot be bound.
    pub fn bind(words: &[BindWord], transport: Transport) -> Result<Self, Failure> {
        let mut sockets = Self::default();
        for word in words {
            for bind in &word.binds {
                let bound = match transport {
                    Transport::Udp => bind.udp().map(|socket| sockets.udp.push(socket)),
                    _ => bind.tcp().map(|socket| sockets.tcp.push(socket)),
                };
                bound.map_err(|e| cannot_listen(word, &e))?;
            }
        }
        Ok(sockets)
    }

    /// Where they are bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let tcp = self.tcp.iter().map(TcpListener::local_addr);
        tcp.chain(self.udp.iter().map(UdpSocket::local_addr)).collect()
    }
}

fn cannot_listen(word: &BindWord, e: &io::Error) -> Failure {
    let failure = failure::local(e).about(&word.text);
    match e.kind() {
        io::ErrorKind::AddrInUse => {
            failure.hint("another program listens there: choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            failure.hint("ports below 1024 are for root: choose a higher one")
        }
        io::ErrorKind::InvalidInput
            if word.binds.iter().any(|bind| lacks_zone(&bind.address())) =>
        {
            failure.hint(NO_ZONE)
        }
        _ => failure,
    }
}
