//! Names of hosts, looked up in a thread: a name server may take its time, the loop may not.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::hub::Bell;
use crate::keys::is_onion;

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
    /// The addresses, in the order in which to try them; an error is told once.
    Done(io::Result<Vec<SocketAddr>>),
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
            return Ok(Self::Done(Ok(vec![SocketAddr::new(ip, target.port)])));
        }
        if is_onion(&target.host) {
            return Ok(Self::Done(Err(needs_proxy(&target.host))));
        }
        let (tell, answer) = channel();
        let (host, port) = (target.host.clone(), target.port);
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let addresses = ask(&host, port).map_err(|e| not_found(&host, &e));
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
            Self::Done(found) => std::mem::replace(found, Ok(Vec::new())).map(Some),
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

/// The addresses of `host`, from the system's resolver: it takes its time. The only place that asks it.
///
/// # Errors
/// What the resolver says; [`io::ErrorKind::Unsupported`] for an `.onion` name, for which it is not
/// asked.
pub fn ask(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_onion(host) {
        return Err(needs_proxy(host));
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

fn needs_proxy(host: &str) -> io::Error {
    let why = format!("{host}: an .onion name needs a proxy, and none is set");
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// What the resolver said of `host`, which it does not name, in the form of our own errors.
fn not_found(host: &str, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    io::Error::new(error.kind(), format!("{host}: {}", why.to_lowercase()))
}
