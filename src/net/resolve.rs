//! Names of hosts, looked up in a thread: a name server may take its time, the loop may not.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::hub::Bell;
use super::lan::links;
use crate::keys::is_onion;

/// Descriptors that the system's resolver has open at once, at most.
const LOOKUP_FILES: usize = 4;

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

impl From<SocketAddr> for HostPort {
    /// As a user writes it: with the name of its interface, if it has a zone.
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                let number = v6.scope_id();
                let zone = links::name_of(number).unwrap_or_else(|| number.to_string());
                format!("{}%{zone}", v6.ip())
            }
            other => other.ip().to_string(),
        };
        Self { host, port: address.port() }
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
        if let Some(known) = without_asking(&target.host, target.port) {
            return Ok(Self::Done(known.map(|address| vec![address])));
        }
        let (tell, answer) = channel();
        let (host, port) = (target.host.clone(), target.port);
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let addresses = ask(&host, port).map_err(|e| {
                // Without a descriptor the resolver says that there is no such name.
                can_open().err().unwrap_or_else(|| not_found(&host, &e))
            });
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

/// The addresses of `host`, if need be from the system's resolver, which takes its time. The only place
/// that asks it.
///
/// # Errors
/// What the resolver says; and for what it is not asked: [`io::ErrorKind::Unsupported`] for an `.onion`
/// name, [`io::ErrorKind::NotFound`] for an interface that is not there.
pub fn ask(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match without_asking(host, port) {
        Some(known) => known.map(|address| vec![address]),
        None => match (host, port).to_socket_addrs() {
            Ok(found) => Ok(found.collect()),
            Err(e) => Err(not_found(host, &e)),
        },
    }
}

/// What is known of `host` by itself: it is an address, or no resolver may hear of it.
fn without_asking(host: &str, port: u16) -> Option<io::Result<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Ok(SocketAddr::new(ip, port)));
    }
    if is_onion(host) {
        return Some(Err(needs_proxy(host)));
    }
    let (address, zone) = host.split_once('%')?;
    let ip = address.parse::<Ipv6Addr>().ok()?;
    Some(in_zone(ip, zone).map(|scope| SocketAddrV6::new(ip, port, 0, scope).into()))
}

/// The number of the interface that `zone` names, or is the number of, for `ip`.
fn in_zone(ip: Ipv6Addr, zone: &str) -> io::Result<u32> {
    if !ip.is_unicast_link_local() {
        let why = format!("{ip}: only a link-local address has an interface behind %");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let number = links::number_of(zone).or_else(|| zone.parse().ok().filter(|n| *n != 0));
    let why = match zone {
        "" => format!("{ip}%: say which interface behind %"),
        zone => format!("{zone}: there is no such interface"),
    };
    number.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, why))
}

fn needs_proxy(host: &str) -> io::Error {
    let why = format!("{host}: an .onion name needs a proxy");
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Whether there are descriptors for a look-up: the resolver needs a socket and a file at once.
fn can_open() -> io::Result<()> {
    let files: io::Result<Vec<File>> = (0..LOOKUP_FILES).map(|_| File::open("/dev/null")).collect();
    match files {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.map(drop),
    }
}

/// What the resolver said of `host`, which it does not name, in the form of our own errors.
fn not_found(host: &str, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    io::Error::new(error.kind(), format!("{host}: {}", why.to_lowercase()))
}
