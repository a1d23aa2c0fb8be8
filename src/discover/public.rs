//! DNS-SD, for people who choose to be seen (RFC 6763, over RFC 6762). Everybody on the network reads
//! the name, and nothing proves it. PROTOCOL.md, 6.6.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, Receiver, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::announce::Listening;
use crate::crypto::sodium::random;
use crate::net::lan::links::{rank, scoped};
use crate::net::sockets::Transport;

/// The longest name, in bytes: one label of DNS.
pub const MAX_NAME: usize = 63;
/// Listeners that are listed: whoever is on the network can make up any number.
pub const MOST: usize = 256;

const TCP: &str = "_anonchat._tcp.local.";
const UDP: &str = "_anonchat._udp.local.";
/// How often networks that come and go are looked for.
const LOOK_SECONDS: u32 = 2;
/// How long to say good-bye.
const GOODBYE: Duration = Duration::from_millis(500);

/// A listener that is there for everybody to see, until this is dropped.
pub struct PublicName {
    daemon: ServiceDaemon,
    names: Vec<String>,
}

impl PublicName {
    /// Shows the listeners at `listening` as `name`, on `interfaces` or, if there are none, on all.
    ///
    /// # Errors
    /// What the system says.
    pub fn show(name: &str, listening: &[Listening], interfaces: &[String]) -> io::Result<Self> {
        let daemon = daemon(interfaces)?;
        // The machine's own name is nobody's business.
        let host = format!("anonchat-{:016x}.local.", u64::from_be_bytes(random()));
        let mut names = Vec::new();
        for at in listening {
            let kind = if at.transport == Transport::Udp { UDP } else { TCP };
            let (ip, port) = (at.address.ip().to_canonical(), at.address.port());
            let version = [("v", "1")];
            let info = match ip.is_unspecified() {
                true => ServiceInfo::new(kind, name, &host, "", port, &version[..])
                    .map(ServiceInfo::enable_addr_auto),
                false => ServiceInfo::new(kind, name, &host, ip, port, &version[..]),
            };
            let info = info.map_err(io::Error::other)?;
            names.push(info.get_fullname().to_owned());
            daemon.register(info).map_err(io::Error::other)?;
        }
        Ok(Self { daemon, names })
    }
}

impl Drop for PublicName {
    fn drop(&mut self) {
        for name in &self.names {
            if let Ok(done) = self.daemon.unregister(name) {
                // Who is not told learns it from the time to live.
                let _ = done.recv_timeout(GOODBYE);
            }
        }
        let _ = self.daemon.shutdown();
    }
}

/// Somebody who chose to be seen, as far as they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What they say that they are called: anything.
    pub name: String,
    /// Where they say that they listen.
    pub address: SocketAddr,
    /// By what.
    pub transport: Transport,
}

/// Looks for people who chose to be seen.
pub struct PublicList {
    daemon: ServiceDaemon,
    tcp: Receiver<ServiceEvent>,
    udp: Receiver<ServiceEvent>,
}

impl PublicList {
    /// Begins to look, on `interfaces` or, if there are none, on all.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(interfaces: &[String]) -> io::Result<Self> {
        let daemon = daemon(interfaces)?;
        let tcp = daemon.browse(TCP).map_err(io::Error::other)?;
        let udp = daemon.browse(UDP).map_err(io::Error::other)?;
        Ok(Self { daemon, tcp, udp })
    }

    /// Waits for `wait` at most, and gives whoever was seen meanwhile.
    pub fn next(&self, wait: Duration) -> Option<Seen> {
        let until = Instant::now() + wait;
        loop {
            let found = seen(&self.udp, Transport::Udp, Duration::ZERO);
            // One after the other: there is no hurry.
            let turn = Duration::from_millis(20).min(wait);
            if let Some(seen) = found.or_else(|| seen(&self.tcp, Transport::Tcp, turn)) {
                return Some(seen);
            }
            if Instant::now() >= until {
                return None;
            }
        }
    }
}

impl Drop for PublicList {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

fn daemon(interfaces: &[String]) -> io::Result<ServiceDaemon> {
    let daemon = ServiceDaemon::new().map_err(io::Error::other)?;
    daemon.set_ip_check_interval(LOOK_SECONDS).map_err(io::Error::other)?;
    let chosen: Vec<_> = interfaces.iter().cloned().map(IfKind::Name).collect();
    let limited = match chosen.is_empty() {
        true => daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6]),
        false => {
            daemon.disable_interface(IfKind::All).and_then(|()| daemon.enable_interface(chosen))
        }
    };
    limited.map_err(io::Error::other)?;
    Ok(daemon)
}

fn seen(from: &Receiver<ServiceEvent>, transport: Transport, wait: Duration) -> Option<Seen> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let ServiceEvent::ServiceResolved(found) = from.recv_timeout(left).ok()? else { continue };
        let at = |ip: &ScopedIp| match ip {
            ScopedIp::V6(v6) => scoped(ip.to_ip_addr(), found.port, v6.scope_id().index),
            _ => SocketAddr::new(ip.to_ip_addr(), found.port),
        };
        let best = found.addresses.iter().map(at).min_by_key(|at| (rank(at), *at));
        if let Some(address) = best {
            let name = instance(&found.fullname, &found.ty_domain);
            return Some(Seen { name, address, transport });
        }
    }
}

/// The instance in front of the service's type, without the escapes of a domain name.
fn instance(full: &str, kind: &str) -> String {
    let escaped = full.strip_suffix(kind).and_then(|rest| rest.strip_suffix('.')).unwrap_or(full);
    let mut out = String::new();
    let mut letters = escaped.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_without_what_dns_adds() {
        assert_eq!(instance("bob._anonchat._tcp.local.", TCP), "bob");
        assert_eq!(instance(r"b\.o\\b._anonchat._tcp.local.", TCP), r"b.o\b");
        assert_eq!(instance("odd", TCP), "odd");
    }
}
