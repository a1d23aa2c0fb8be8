//! An announcer with its sockets: one pair that hears what everybody is told, beside others on this
//! machine, and one of its own to answer from, by which it can be asked alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::Registry;

use super::announcer::{Announcer, Outcome, Presence};
use super::introduction::introduce;
use super::seek::{Place, Trace, crossing};
use crate::crypto::sodium::{KeyPair, OsRandom, PublicKey, random};
use crate::net::lan::links::{Link, links};
use crate::net::lan::socket::{LanSockets, Space, Way};
use crate::net::sockets::Transport;
use crate::net::tokens::Topic;
use crate::proto::datagram::admission::Admission;
use crate::proto::datagram::packet::{LocalKey, MessageId, PACKET_LEN};
use crate::proto::datagram::presence::{
    Carrier, Endpoint, HereBody, INSTANCE_LEN, Introduction, MAX_ADDRESSES, MAX_ENDPOINTS,
    ProbeBody,
};
use crate::proto::time::Now;

/// Packets that are read before others have their turn.
const PACKETS_A_TURN: usize = 256;
/// How long packets gather before they are looked at again, so that a flood costs few wake-ups.
pub const GATHER: Duration = Duration::from_millis(2);
/// The links are looked at again when they are asked for and this old.
const LOOK: Duration = Duration::from_secs(1);

/// Where a listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// `[::]` stands for every address of both families, `0.0.0.0` for every IPv4 address.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub transport: Transport,
}

impl Listening {
    fn is_at(&self, ip: IpAddr) -> bool {
        match self.address.ip().to_canonical() {
            own if own.is_unspecified() => own.is_ipv6() || ip.is_ipv4(),
            own => own == ip,
        }
    }

    fn endpoint(&self) -> Endpoint {
        let carrier = if self.transport == Transport::Udp { Carrier::Udp } else { Carrier::Tcp };
        Endpoint { carrier, port: self.address.port() }
    }
}

/// A key that is answered for.
pub struct Announced {
    /// The key pair.
    pub pair: KeyPair,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// Several people hold it.
    pub is_group: bool,
}

/// What members of a group are told of the one who answers.
pub struct Member {
    /// The member's own key.
    pub pair: KeyPair,
    /// Its `access`, 32 bytes.
    pub access: [u8; 32],
    /// What it calls itself.
    pub name: Option<String>,
}

/// Who is heard.
pub trait Door {
    /// Whether the holder of `sender`, who asks for key number `local`, is heard.
    fn admit(&mut self, sender: &PublicKey, local: usize) -> Admission;
    /// The holder of `sender` was turned away.
    fn turned_away(&mut self, sender: &PublicKey);
    /// Who is shown what crosses the wire, if anybody is.
    fn trace(&self) -> Option<Trace>;
}

/// What is said to whom: the listener's places, the links, and the member's introduction.
struct Desk<'d> {
    door: &'d mut dyn Door,
    site: &'d mut Site,
}

/// What the answers say.
struct Site {
    listening: Vec<Listening>,
    /// The keys of groups, by the number of the local key.
    groups: Vec<Option<PublicKey>>,
    member: Option<Member>,
    instance: [u8; INSTANCE_LEN],
    interfaces: Vec<String>,
    links: Vec<Link>,
    looked: Option<Instant>,
    /// The address that the packet at hand was sent to.
    asked: Option<IpAddr>,
}

/// An announcer at work.
pub struct Announcement {
    announcer: Announcer,
    shared: LanSockets,
    own: LanSockets,
    site: Site,
    space: Space,
    more: bool,
}

impl Announcement {
    /// Begins to answer for `keys`, whose listener listens at `listening`.
    ///
    /// # Errors
    /// What the system says of the sockets.
    pub fn new(
        registry: &Registry,
        place: &Place,
        keys: Vec<Announced>,
        listening: Vec<Listening>,
        member: Option<Member>,
    ) -> io::Result<Self> {
        let mut shared = LanSockets::shared(place.port)?;
        shared.register(registry, Topic::Discovery(0).token())?;
        let mut own = LanSockets::own()?;
        own.register(registry, Topic::Discovery(1).token())?;
        let groups = keys.iter().map(|key| key.is_group.then(|| *key.pair.public())).collect();
        let locals = keys.into_iter().map(|key| LocalKey::new(key.pair, &key.access)).collect();
        let site = Site {
            listening,
            groups,
            member,
            instance: random(),
            interfaces: place.interfaces.clone(),
            links: Vec::new(),
            looked: None,
            asked: None,
        };
        let (announcer, space) = (Announcer::new(locals), Space::new());
        Ok(Self { announcer, shared, own, site, space, more: true })
    }

    /// Answers what came. To be called when a socket has news, and as long as more is there; after
    /// a pause of [`GATHER`].
    pub fn serve(&mut self, now: Now, door: &mut dyn Door) {
        let Self { announcer, shared, own, site, space, .. } = self;
        let mut take = |packet: &[u8], way: Way| {
            site.asked = way.asked;
            let mut answer = [0; PACKET_LEN];
            let mut desk = Desk { door: &mut *door, site: &mut *site };
            let (from, link) = (way.from, way.link);
            match announcer.feed(packet, from, link, now, &mut desk, &mut OsRandom, &mut answer) {
                Outcome::Silence => {}
                Outcome::TurnedAway(sender) => door.turned_away(&sender),
                Outcome::Answer => {
                    // From the address that was asked. What goes nowhere is no answer: the same probe
                    // may come by another way.
                    let source = way.asked.filter(|ip| site.is_ours(*ip));
                    if own.send(from, source, &answer).is_err() {
                        return announcer.not_sent();
                    }
                    if let Some(trace) = door.trace() {
                        trace(&crossing(false, packet, format!("PROBE from {from}")));
                        trace(&crossing(true, &answer, format!("HERE to {from}")));
                    }
                }
            }
        };
        let more = shared.receive(PACKETS_A_TURN, space, &mut take);
        self.more = own.receive(PACKETS_A_TURN, space, &mut take) | more;
    }

    /// Whether packets were left so that others have their turn.
    pub fn has_more(&self) -> bool {
        self.more
    }
}

impl Site {
    fn is_ours(&self, ip: IpAddr) -> bool {
        self.links.iter().any(|link| link.ips().any(|own| own == ip))
    }

    /// The link that a packet came by: that of the number; else, from this very machine, the one
    /// whose address was asked.
    fn link(&mut self, number: u32) -> Option<&Link> {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            // If they cannot be listed, those that were there before stay.
            self.links = links(&self.interfaces).unwrap_or(std::mem::take(&mut self.links));
        }
        let by_number = self.links.iter().find(|link| link.index == number);
        by_number.or_else(|| {
            let asked = self.asked?;
            self.links.iter().find(|link| link.ips().any(|ip| ip == asked))
        })
    }

    fn introduction(&self, probe: &ProbeBody, id: MessageId, local: usize) -> Option<Introduction> {
        let (group, seeker) = (self.groups.get(local)?.as_ref()?, probe.introduce.as_ref()?);
        let member = self.member.as_ref()?;
        introduce(&member.pair, &member.access, member.name.as_deref(), group, id, seeker)
    }
}

impl Presence for Desk<'_> {
    fn admit(&mut self, sender: &PublicKey, local: usize) -> Admission {
        self.door.admit(sender, local)
    }

    fn here(
        &mut self,
        probe: &ProbeBody,
        id: MessageId,
        local: usize,
        link: u32,
    ) -> Option<HereBody> {
        let listening = self.site.listening.clone();
        let link = self.site.link(link)?;
        let reached = |ip: &IpAddr| listening.iter().any(|at| at.is_at(*ip));
        let addresses: Vec<_> = link.ips().filter(reached).take(MAX_ADDRESSES).collect();
        let on_link = |at: &&Listening| addresses.iter().any(|ip| at.is_at(*ip));
        let here = listening.iter().filter(on_link).map(Listening::endpoint);
        let mut endpoints: Vec<_> = here.take(MAX_ENDPOINTS).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        if endpoints.is_empty() {
            return None;
        }
        let introduction = self.site.introduction(probe, id, local);
        Some(HereBody { addresses, endpoints, instance: self.site.instance, introduction })
    }
}
