//! What the bodies of discovery's PROBE and HERE say. PROTOCOL.md, 5.4, 6.2 and 6.3.
//!
//! CBOR maps with unsigned keys, definite lengths, at most 16 entries and nothing behind them;
//! unknown keys are skipped, known ones may come once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

use super::packet::FRAGMENT_LEN;
use crate::crypto::sodium::PublicKey;

/// The most addresses that a body may have.
pub const MAX_ADDRESSES: usize = 16;
/// The most endpoints that a HERE may have.
pub const MAX_ENDPOINTS: usize = 8;
/// The longest name in an introduction, in bytes: that of a petname.
pub const MAX_NAME: usize = 64;
/// Size of the number that tells several answers under one key apart, in bytes.
pub const INSTANCE_LEN: usize = 8;

/// The most entries that a body's map may have.
const MAX_ENTRIES: u64 = 16;

type Fault = minicbor::decode::Error;

/// A body as it is written: at most as long as one packet takes.
pub struct Body {
    bytes: [u8; FRAGMENT_LEN],
    len: usize,
}

impl Body {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// `write` never writes more than fits: every list is cut at its bound.
    fn written(write: impl FnOnce(&mut Encoder<Cursor<&mut [u8]>>) -> Option<()>) -> Self {
        let mut bytes = [0; FRAGMENT_LEN];
        let mut encoder = Encoder::new(Cursor::new(&mut bytes[..]));
        let fits = write(&mut encoder).is_some();
        debug_assert!(fits, "a body longer than a packet");
        let len = encoder.writer().position();
        Self { bytes, len }
    }
}

/// What a seeker says: where its answer may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeBody {
    /// Its addresses, 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// The UDP port that it asks from.
    pub port: u16,
    /// Asks members of the sought group to introduce themselves: a throwaway key of the seeker.
    pub introduce: Option<PublicKey>,
}

/// What carries a listener's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Carrier {
    /// Streams.
    Tcp = 0,
    /// Datagrams.
    Udp = 1,
}

/// Where a listener listens, at every address of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// By what.
    pub carrier: Carrier,
    /// 1 to 65535.
    pub port: u16,
}

/// A member of a group hands out its public key file.
#[derive(Clone, PartialEq, Eq)]
pub struct Introduction {
    /// What it says of itself.
    pub claim: Claim,
    /// That its maker holds the member's key. PROTOCOL.md, 6.5.
    pub proof: [u8; 32],
}

/// What a member of a group says of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// The member's own key.
    pub public: PublicKey,
    /// What is needed to reach it, 32 bytes.
    pub access: [u8; 32],
    /// What it calls itself: up to [`MAX_NAME`] bytes of anything; empty if it says nothing.
    pub name: String,
}

/// What an announcer answers.
#[derive(Clone, PartialEq, Eq)]
pub struct HereBody {
    /// Its addresses, 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// Where its listener listens, 1 to [`MAX_ENDPOINTS`].
    pub endpoints: Vec<Endpoint>,
    /// Tells several announcers under one key apart.
    pub instance: [u8; INSTANCE_LEN],
    /// A member of a group introduces itself.
    pub introduction: Option<Introduction>,
}

impl ProbeBody {
    /// The body's bytes; addresses beyond the bound are left out.
    pub fn encode(&self) -> Body {
        Body::written(|to| {
            to.map(2 + u64::from(self.introduce.is_some())).ok()?.u8(0).ok()?;
            put_addresses(to, &self.addresses)?;
            to.u8(1).ok()?.u16(self.port).ok()?;
            if let Some(key) = &self.introduce {
                to.u8(2).ok()?.bytes(key.as_bytes()).ok()?;
            }
            Some(())
        })
    }

    /// Reads what a stranger may have written; `None` if any rule is broken.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut addresses, mut port, mut introduce) = (None, None, None);
        entries(bytes, |key, from| match key {
            0 => once(&mut addresses, take_addresses(from)?),
            1 => once(&mut port, nonzero(from.u16()?)?),
            2 => once(&mut introduce, public_key(from.bytes()?)?),
            _ => from.skip(),
        })?;
        Some(Self { addresses: addresses?, port: port?, introduce })
    }
}

impl HereBody {
    /// The body's bytes; what is beyond a bound is left out.
    pub fn encode(&self) -> Body {
        Body::written(|to| {
            to.map(3 + u64::from(self.introduction.is_some())).ok()?.u8(0).ok()?;
            put_addresses(to, &self.addresses)?;
            let endpoints = &self.endpoints[..self.endpoints.len().min(MAX_ENDPOINTS)];
            to.u8(1).ok()?.array(endpoints.len() as u64).ok()?;
            for at in endpoints {
                to.array(2).ok()?.u8(at.carrier as u8).ok()?.u16(at.port).ok()?;
            }
            if let Some(Introduction { claim, proof }) = &self.introduction {
                to.u8(2).ok()?.array(4).ok()?.bytes(claim.public.as_bytes()).ok()?;
                to.bytes(&claim.access).ok()?.str(&claim.name).ok()?.bytes(proof).ok()?;
            }
            to.u8(3).ok()?.bytes(&self.instance).ok()?;
            Some(())
        })
    }

    /// Reads what a contact, or anybody in a group, may have written; `None` if any rule is broken.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut addresses, mut endpoints) = (None, None);
        let (mut introduction, mut instance) = (None, None);
        entries(bytes, |key, from| match key {
            0 => once(&mut addresses, take_addresses(from)?),
            1 => once(&mut endpoints, take_endpoints(from)?),
            2 => once(&mut introduction, take_introduction(from)?),
            3 => once(&mut instance, exact(from.bytes()?)?),
            _ => from.skip(),
        })?;
        Some(Self {
            addresses: addresses?,
            endpoints: endpoints?,
            instance: instance?,
            introduction,
        })
    }
}

/// What tells programs under one key apart in a HERE that came by a relay (PROTOCOL.md, 5.4); `None`
/// if any rule is broken.
pub fn instance(bytes: &[u8]) -> Option<[u8; INSTANCE_LEN]> {
    let mut instance = None;
    entries(bytes, |key, from| match key {
        3 => once(&mut instance, exact(from.bytes()?)?),
        0 => Err(Fault::message("addresses, by a relay")),
        _ => from.skip(),
    })?;
    instance
}

/// Hands each entry of the one map that `bytes` must be to `take`.
fn entries<'b>(
    bytes: &'b [u8],
    mut take: impl FnMut(u64, &mut Decoder<'b>) -> Result<(), Fault>,
) -> Option<()> {
    let mut from = Decoder::new(bytes);
    let count = from.map().ok()?.filter(|count| *count <= MAX_ENTRIES)?;
    for _ in 0..count {
        let key = from.u64().ok()?;
        take(key, &mut from).ok()?;
    }
    (from.position() == bytes.len()).then_some(())
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::message("twice")),
    }
}

fn put_addresses(to: &mut Encoder<Cursor<&mut [u8]>>, addresses: &[IpAddr]) -> Option<()> {
    let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
    to.array(addresses.len() as u64).ok()?;
    for address in addresses {
        match address {
            IpAddr::V4(ip) => to.bytes(&ip.octets()),
            IpAddr::V6(ip) => to.bytes(&ip.octets()),
        }
        .ok()?;
    }
    Some(())
}

fn length(from: &mut Decoder<'_>, most: usize) -> Result<usize, Fault> {
    let len = from.array()?.and_then(|len| usize::try_from(len).ok());
    len.filter(|len| (1..=most).contains(len)).ok_or_else(|| Fault::message("length of a list"))
}

fn take_addresses(from: &mut Decoder<'_>) -> Result<Vec<IpAddr>, Fault> {
    let len = length(from, MAX_ADDRESSES)?;
    (0..len).map(|_| address(from.bytes()?)).collect()
}

/// An address that a machine can have, in its one form.
fn address(bytes: &[u8]) -> Result<IpAddr, Fault> {
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(exact::<4>(bytes)?)),
        _ => IpAddr::V6(Ipv6Addr::from(exact::<16>(bytes)?)),
    };
    let nobodys = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    match nobodys || ip.to_canonical() != ip {
        true => Err(Fault::message("no machine's address")),
        false => Ok(ip),
    }
}

/// Endpoints whose carrier this version does not know are skipped.
fn take_endpoints(from: &mut Decoder<'_>) -> Result<Vec<Endpoint>, Fault> {
    let mut endpoints = Vec::new();
    for _ in 0..length(from, MAX_ENDPOINTS)? {
        if from.array()? != Some(2) {
            return Err(Fault::message("an endpoint is a pair"));
        }
        let (carrier, port) = (from.u8()?, nonzero(from.u16()?)?);
        let known = [Carrier::Tcp, Carrier::Udp].into_iter().find(|c| *c as u8 == carrier);
        endpoints.extend(known.map(|carrier| Endpoint { carrier, port }));
    }
    Ok(endpoints)
}

fn take_introduction(from: &mut Decoder<'_>) -> Result<Introduction, Fault> {
    if from.array()? != Some(4) {
        return Err(Fault::message("an introduction has four parts"));
    }
    let public = public_key(from.bytes()?)?;
    let access = exact(from.bytes()?)?;
    let name = from.str()?;
    if name.len() > MAX_NAME {
        return Err(Fault::message("a long name"));
    }
    let claim = Claim { public, access, name: name.to_owned() };
    Ok(Introduction { claim, proof: exact(from.bytes()?)? })
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, Fault> {
    PublicKey::from_bytes(&exact(bytes)?).map_err(|_| Fault::message("no public key"))
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::message("length of bytes"))
}

fn nonzero(port: u16) -> Result<u16, Fault> {
    if port == 0 { Err(Fault::message("port 0")) } else { Ok(port) }
}
