//! Names of hosts, looked up in a thread: a name server may take its time, the loop may not.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::hub::Bell;

/// Where somebody listens, as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A look-up under way, or its answer.
pub enum Lookup {
    /// The addresses, in the order in which to try them.
    Done(Vec<SocketAddr>),
    /// A thread is asking.
    Asking(Receiver<io::Result<Vec<SocketAddr>>>),
}

impl Lookup {
    /// Starts looking up; an address needs no asking.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(target: &HostPort, bell: Bell) -> io::Result<Self> {
        if let Ok(ip) = target.host.parse::<IpAddr>() {
            return Ok(Self::Done(vec![SocketAddr::new(ip, target.port)]));
        }
        let (tell, answer) = channel();
        let (host, port) = (target.host.clone(), target.port);
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            let addresses = found.map(Iterator::collect).map_err(|e| not_found(&host, &e));
            // Nobody listens any more if the program gave up meanwhile.
            let _ = tell.send(addresses);
            bell.ring();
        })?;
        Ok(Self::Asking(answer))
    }

    /// The addresses, once they are there.
    ///
    /// # Errors
    /// What the system's resolver said.
    pub fn poll(&mut self) -> io::Result<Option<Vec<SocketAddr>>> {
        match self {
            Self::Done(addresses) => Ok(Some(std::mem::take(addresses))),
            Self::Asking(answer) => match answer.try_recv() {
                Ok(result) => result.map(Some),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => {
                    Err(io::Error::other("the resolver ended without an answer"))
                }
            },
        }
    }
}

/// What the resolver said of `host`, which it does not name, in the form of our own errors.
fn not_found(host: &str, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    io::Error::new(error.kind(), format!("{host}: {}", why.to_lowercase()))
}
