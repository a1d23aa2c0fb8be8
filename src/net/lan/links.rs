//! The interfaces that are up, with their addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use if_addrs::{IfAddr, IfOperStatus};

/// An interface that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// As the system calls it.
    pub name: String,
    /// Its number, the scope of link-local addresses.
    pub index: u32,
    /// At least one.
    pub addresses: Vec<Address>,
}

/// One address of ours on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// How many of its bits all hosts of the link share.
    pub prefix: u8,
    /// Where IPv4 reaches all of them.
    pub broadcast: Option<Ipv4Addr>,
}

impl Address {
    /// Whether `other` is a neighbour's, or our own.
    fn is_near(&self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let shift = bits.saturating_sub(self.prefix.into());
            shift >= 128 || a >> shift == b >> shift
        };
        match (self.ip, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

impl Link {
    /// Whether `ip` is the address of a host on this link.
    pub fn reaches(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.is_near(ip))
    }

    /// Our addresses on it.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|address| address.ip)
    }
}

/// Whether IPv6 has `ip` mean another host on each link.
pub fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Whether it is an address that means another host on each link, and no link is said.
pub fn lacks_zone(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

/// The address to speak to: a link-local one bears its link's number.
pub fn scoped(ip: IpAddr, port: u16, link: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if is_link_local(ip) => SocketAddrV6::new(v6, port, 0, link).into(),
        _ => SocketAddr::new(ip, port),
    }
}

/// What people can use best comes first: IPv4, IPv6, link-local, loopback.
pub fn rank(address: &SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => 4,
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        ip if is_link_local(ip) => 3,
        IpAddr::V6(ip) if ip.is_loopback() => 4,
        IpAddr::V6(_) => 1,
    }
}

/// The links that are up, sorted by number. Only those named in `only`, unless that is empty; then
/// loopback is left out if there is any other.
///
/// # Errors
/// What the system says.
pub fn links(only: &[String]) -> io::Result<Vec<Link>> {
    let mut links: BTreeMap<u32, Link> = BTreeMap::new();
    let mut loopback = Vec::new();
    for found in if_addrs::get_if_addrs()? {
        let Some(index) = found.index.filter(|_| found.oper_status == IfOperStatus::Up) else {
            continue;
        };
        if !only.is_empty() && !only.contains(&found.name) {
            continue;
        }
        if found.is_loopback() {
            loopback.push(index);
        }
        let none = || Link { name: found.name.clone(), index, addresses: Vec::new() };
        links.entry(index).or_insert_with(none).addresses.push(address(&found.addr));
    }
    if only.is_empty() && links.keys().any(|index| !loopback.contains(index)) {
        links.retain(|index, _| !loopback.contains(index));
    }
    Ok(links.into_values().collect())
}

fn address(found: &IfAddr) -> Address {
    match found {
        IfAddr::V4(v4) => {
            let whole = |ip: Ipv4Addr| Ipv4Addr::from_bits(ip.to_bits() | !v4.netmask.to_bits());
            // Loopback has one without saying so.
            let broadcast = v4.broadcast.or_else(|| v4.ip.is_loopback().then(|| whole(v4.ip)));
            Address { ip: v4.ip.into(), prefix: v4.prefixlen, broadcast }
        }
        IfAddr::V6(v6) => Address { ip: v6.ip.into(), prefix: v6.prefixlen, broadcast: None },
    }
}

/// What the system calls the link of this number.
pub fn name_of(index: u32) -> Option<String> {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    found.into_iter().find(|i| i.index == Some(index)).map(|i| i.name)
}

/// The number of the link that the system calls `name`.
pub fn number_of(name: &str) -> Option<u32> {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    found.into_iter().find(|i| i.name == name)?.index
}

/// Where a packet goes so that every host of `link` hears it on `port`, each with the address of
/// ours to send it from.
pub fn everybody(link: &Link, port: u16) -> Vec<(SocketAddr, Option<IpAddr>)> {
    const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut to = Vec::new();
    let v4 = link.addresses.iter().filter(|address| address.ip.is_ipv4());
    for (nth, address) in v4.enumerate() {
        // The source chooses the link (Linux ip(7)); one copy a link is enough.
        if nth == 0 && !address.ip.is_loopback() {
            to.push((SocketAddr::new(ALL_HOSTS.into(), port), Some(address.ip)));
        }
        if let Some(all) = address.broadcast {
            to.push((SocketAddr::new(all.into(), port), Some(address.ip)));
        }
    }
    if link.ips().any(is_link_local) {
        to.push((SocketAddrV6::new(ALL_NODES, port, 0, link.index).into(), None));
    }
    to
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn link(ip: &str, prefix: u8) -> Link {
        let address = Address { ip: ip.parse().unwrap(), prefix, broadcast: None };
        Link { name: "l".into(), index: 1, addresses: vec![address] }
    }

    #[test]
    fn a_link_reaches_its_subnet_and_nothing_else() {
        let near = |link: &Link, ip: &str| link.reaches(ip.parse().unwrap());
        let v4 = link("10.0.0.5", 24);
        assert!(near(&v4, "10.0.0.255") && near(&v4, "10.0.0.5"));
        assert!(!near(&v4, "10.0.1.5") && !near(&v4, "fe80::1"));
        assert!(!near(&link("10.0.0.5", 32), "10.0.0.4"));
        assert!(near(&link("10.0.0.5", 0), "192.0.2.1"));
        let v6 = link("fd00::5", 64);
        assert!(near(&v6, "fd00::ffff") && !near(&v6, "fd00:0:0:1::5"));
        assert!(near(&link("fd00::5", 0), "2001:db8::1"));
    }
}
