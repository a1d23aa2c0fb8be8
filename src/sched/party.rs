//! Who shares what a server has: sources of messages, and the parties that they belong to.

use std::net::{IpAddr, Ipv6Addr};

use crate::crypto::sodium::PublicKey;

/// Where a message comes from. The number tells apart sources of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A connection, whose number is that of its token.
    Connection(usize),
    /// A message that came whole in cells of a relay.
    Cells(u64),
    /// A datagram without encryption.
    PlainDatagram(u64),
    /// A run of datagrams.
    Run(u64),
}

impl Source {
    /// The number of a connection; `None` for any other source.
    pub fn connection(self) -> Option<usize> {
        match self {
            Self::Connection(number) => Some(number),
            Self::Cells(_) | Self::PlainDatagram(_) | Self::Run(_) => None,
        }
    }
}

/// A network that one caller may have to itself: an IPv4 address, or the upper 64 bits of an IPv6
/// address (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address. One that IPv6 carries for IPv4 is an IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => {
                let upper = v6.to_bits() >> 64 << 64;
                Self(IpAddr::V6(Ipv6Addr::from_bits(upper)))
            }
            other => Self(other),
        }
    }

    /// Whether it is this machine, from where forwarders call for any number of people.
    pub fn is_loopback(self) -> bool {
        self.0.is_loopback()
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V6(v6) if !v6.is_loopback() => write!(f, "{v6}/64"),
            other => other.fmt(f),
        }
    }
}

/// Who shares a fair part of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A contact.
    Contact(PublicKey),
    /// Somebody whose key, if there is one, says nothing: anybody can make another.
    Address(Network),
    /// The same over UDP, where an address says nothing either.
    Unknown,
    /// A source of which nothing was said.
    Alone(Source),
}
