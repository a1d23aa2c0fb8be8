//! The optional part of a key file: what its owner says about themselves.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Contact;

/// Most addresses in one key file.
pub const MAX_ADDRESSES: usize = 8;
/// Largest host name, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;
/// Largest interface name after `%` in an IPv6 address.
const MAX_ZONE: usize = 15;

/// What a key file may say beside its key. Claims, never proven.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The petname that the owner suggests; keeps the rules of [`super::names::petname`].
    pub name: Option<String>,
    /// `HOST:PORT` each, at most [`MAX_ADDRESSES`], to be tried in turn.
    pub address: Vec<String>,
    /// Where to meet when no address works.
    pub relay: Option<RelayHint>,
}

/// Which relay to meet at.
#[derive(Clone, PartialEq, Eq)]
pub enum RelayHint {
    /// The petname of a relay in my own keyring.
    Name(String),
    /// The relay's own public fields and addresses; of its hints only `address` is used.
    Inline(Box<Contact>),
}

/// Why a string is no `HOST:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAddress {
    /// No `:PORT` at the end.
    NoPort,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The host is neither a name nor an address.
    Host,
    /// An IPv6 address stands without brackets.
    Brackets,
    /// The host is an `.onion` name.
    Onion,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPort => "an address is HOST:PORT, or [IPV6]:PORT",
            Self::Port => "a port is a number from 1 to 65535",
            Self::Host => "the host is neither a name nor an address",
            Self::Brackets => "an IPv6 address stands in brackets: [IPV6]:PORT",
            Self::Onion => "an .onion name needs a proxy",
        })
    }
}

/// Checks `HOST:PORT` or `[IPV6]:PORT`, without asking a name server.
///
/// # Errors
/// [`BadAddress`].
pub fn check_address(address: &str) -> Result<(), BadAddress> {
    let (host, port) = address.rsplit_once(':').ok_or(BadAddress::NoPort)?;
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(BadAddress::Host)?;
        check_ipv6(inner)?;
    } else {
        check_host(host)?;
    }
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        _ => Err(BadAddress::Port),
    }
}

/// Whether `host` is a name of the Tor network, which no name server knows: it is reached by a proxy
/// alone, and asking a name server for it tells the network whom somebody looks for (RFC 7686).
pub fn is_onion(host: &str) -> bool {
    let name = host.trim_end_matches('.');
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("onion"))
}

/// Checks an address that is to be put into a key file: [`check_address`], and no `.onion` name, where
/// nobody could go yet.
///
/// # Errors
/// [`BadAddress`].
pub fn check_own_address(address: &str) -> Result<(), BadAddress> {
    check_address(address)?;
    match address.rsplit_once(':') {
        Some((host, _)) if is_onion(host) => Err(BadAddress::Onion),
        _ => Ok(()),
    }
}

fn check_ipv6(inner: &str) -> Result<(), BadAddress> {
    let (address, zone) = inner.split_once('%').map_or((inner, None), |(a, z)| (a, Some(z)));
    let zone_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let good = |z: &str| (1..=MAX_ZONE).contains(&z.len()) && z.bytes().all(zone_byte);
    if address.parse::<Ipv6Addr>().is_err() || !zone.is_none_or(good) {
        return Err(BadAddress::Host);
    }
    Ok(())
}

/// A host name of letters, digits, `-`, `_` and dots, or an IPv4 address.
fn check_host(host: &str) -> Result<(), BadAddress> {
    if host.contains(':') {
        return Err(BadAddress::Brackets);
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > MAX_HOST || !name.split('.').all(label) {
        return Err(BadAddress::Host);
    }
    // What ends in a number is meant as an IPv4 address (WHATWG URL, "ends in a number").
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err(BadAddress::Host);
    }
    Ok(())
}
