//! Several peers in one loop: each is reached, told and asked on its own, and what comes of it is
//! said at once.

use std::time::Duration;

use mio::event::Event;
use mio::{Events, Token};

use super::fan::{Fan, Laggard};
use super::hub::Hub;
use super::send::{Delivered, Limits, SendError};
use super::tokens::Topic;
use crate::proto::stream::link::Crossing;

/// What a peer's turn came to.
#[derive(Debug)]
pub enum Turn {
    /// There is more that can be done at once.
    Busy,
    /// Wait for events, or its deadline.
    Wait,
    /// It ended so.
    Over(Result<Delivered, SendError>),
}

/// One peer on its way from being looked up to the last acknowledgement.
pub trait Peer {
    /// Takes note of an event for its token.
    fn on_event(&mut self, event: &Event);
    /// What can be done without waiting, up to a limit.
    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn;
    /// When it has something to do without news.
    fn deadline(&self, limits: &Limits<'_>) -> Duration;
    /// We stop: it is told, as far as that can be done at once.
    fn stop(&mut self, hub: &Hub);
    /// It is so many bytes behind the others, who wait for it no longer.
    fn too_slow(&mut self, hub: &Hub, behind: u64) -> SendError;
}

/// The number of the peer that an event is for, or for one of whose members it is.
fn peer_of(token: Token) -> Option<usize> {
    match Topic::of(token)? {
        Topic::Peer(peer) | Topic::Member { peer, .. } => Some(peer),
        _ => None,
    }
}

/// Sees what crosses the wire to and from which peer.
pub type Trace<'a> = dyn FnMut(usize, &Crossing) + 'a;
/// Learns what came of which peer.
pub type Each<'a> = dyn FnMut(&Hub, usize, Result<Delivered, SendError>) + 'a;

/// What watches over several peers.
pub struct Watch<'a> {
    /// A peer may be silent this long.
    pub silence: Duration,
    /// Sees what crosses the wire to and from which peer, if anybody does.
    pub trace: Option<&'a mut Trace<'a>>,
    /// What they are all told, reader by reader, if it is one input.
    pub fan: Option<&'a Fan>,
    /// Learns what came of each, as soon as that is known.
    pub each: &'a mut Each<'a>,
}

/// Sends to one peer. Signals are armed at the latest before it waits for the first time.
///
/// # Errors
/// [`SendError`].
pub fn send_to_one<P: Peer>(
    hub: &mut Hub,
    mut peer: P,
    limits: &mut Limits<'_>,
) -> Result<Delivered, SendError> {
    let mut events = Events::with_capacity(16);
    loop {
        let until = match peer.turn(hub, limits) {
            Turn::Over(outcome) => return outcome,
            Turn::Busy => hub.clock.now().mono,
            Turn::Wait => peer.deadline(limits),
        };
        // Whoever is called is busy with that now, and this takes nobody's time.
        hub.signals.arm().map_err(SendError::Local)?;
        hub.wait(&mut events, Some(until)).map_err(SendError::Local)?;
        events.iter().filter(|e| peer_of(e.token()) == Some(0)).for_each(|e| peer.on_event(e));
        if let Some(signal) = hub.signals.arrived() {
            peer.stop(hub);
            return Err(SendError::Signal(signal));
        }
    }
}

/// Sends to all of `peers`, whose topics are [`Topic::Peer`] of their place.
///
/// # Errors
/// [`SendError::Signal`] and [`SendError::Local`], which end them all.
pub fn send_to_all<P: Peer>(
    hub: &mut Hub,
    peers: Vec<P>,
    watch: &mut Watch<'_>,
) -> Result<(), SendError> {
    let mut events = Events::with_capacity(64);
    let mut peers: Vec<_> = peers.into_iter().map(Some).collect();
    loop {
        let until = turns(hub, &mut peers, watch);
        if peers.iter().all(Option::is_none) {
            return Ok(());
        }
        hub.wait(&mut events, until).map_err(SendError::Local)?;
        for event in &events {
            let number = peer_of(event.token());
            if let Some(Some(peer)) = number.and_then(|number| peers.get_mut(number)) {
                peer.on_event(event);
            }
        }
        if let Some(signal) = hub.signals.arrived() {
            peers.iter_mut().flatten().for_each(|peer| peer.stop(hub));
            return Err(SendError::Signal(signal));
        }
    }
}

/// A turn for each; until when to wait then.
fn turns<P: Peer>(hub: &Hub, peers: &mut [Option<P>], watch: &mut Watch<'_>) -> Option<Duration> {
    let (mut busy, mut deadlines) = (false, Vec::with_capacity(peers.len() + 1));
    for (number, place) in peers.iter_mut().enumerate() {
        let Some(peer) = place else { continue };
        let mut show;
        let trace: Option<&mut dyn FnMut(&Crossing)> = match &mut watch.trace {
            Some(trace) => {
                show = |crossing: &Crossing| trace(number, crossing);
                Some(&mut show)
            }
            None => None,
        };
        let mut limits = Limits { silence: watch.silence, trace };
        match peer.turn(hub, &mut limits) {
            Turn::Busy => busy = true,
            Turn::Wait => deadlines.push(peer.deadline(&limits)),
            Turn::Over(outcome) => {
                *place = None;
                (watch.each)(hub, number, outcome);
            }
        }
    }
    if let Some(fan) = watch.fan {
        for Laggard { reader, behind } in fan.tend(hub.clock.now().mono) {
            let Some(mut peer) = peers.get_mut(reader).and_then(Option::take) else { continue };
            let outcome = Err(peer.too_slow(hub, behind));
            drop(peer);
            (watch.each)(hub, reader, outcome);
        }
        busy |= fan.take_news();
        deadlines.extend(fan.deadline());
    }
    if busy { Some(hub.clock.now().mono) } else { deadlines.into_iter().min() }
}
