//! One message to one peer over UDP: a run of datagrams, each acknowledged.
//!
//! `search` finds the peer's addresses, `route` is the one that is spoken to; `ping` asks whether
//! the peer is there, `run` tells it something.

mod ping;
mod route;
mod run;
mod search;

use std::net::SocketAddr;
use std::time::Duration;

use mio::Token;
use mio::event::Event;

use self::ping::Ping;
use self::route::Route;
use self::run::Run;
use self::search::Search;
use super::call::Call;
use super::dial::{DialError, NoProof, silent};
use super::hub::Hub;
use super::input::Input;
use super::send::{Cut, Delivered, Limits, PEER, SendError};
use super::several::{Peer, Turn, send_to_one};
use super::via::Place;
use crate::proto::datagram::sender::Reliability;
use crate::proto::time::Now;

pub(super) use self::route::connect;
pub(super) use self::search::{look_up, wait};

/// Answers that are read before more is sent.
const ANSWERS_A_TURN: usize = 256;
/// Larger than any answer.
const READ_SPACE: usize = 2048;

/// What is to be sent.
pub enum Job {
    /// Is the peer there?
    Ping,
    /// Everything that the input gives, as one run.
    Run(Input, Reliability),
}

/// Sends one message over UDP and waits until it is delivered, unless it is not to be acknowledged.
///
/// # Errors
/// [`SendError`], with the same meaning as over TCP.
pub fn send_datagrams(
    hub: &mut Hub,
    call: &Call<'_>,
    targets: &[Place],
    job: Job,
    limits: &mut Limits<'_>,
) -> Result<Delivered, SendError> {
    send_to_one(hub, Datagrams::new(hub, call, targets, job, PEER), limits)
}

/// A peer that is spoken to over UDP.
pub struct Datagrams<'a> {
    call: &'a Call<'a>,
    token: Token,
    stage: Stage,
}

enum Stage {
    /// Its addresses are looked up.
    Seeking(Search, Option<Job>),
    /// Is it there?
    Pinging(Box<Ping>, Route),
    /// It is told.
    Running(Box<Run>, Route),
}

impl<'a> Datagrams<'a> {
    /// What `call` and `targets` say; its socket registers as `token`.
    pub fn new(hub: &Hub, call: &'a Call<'a>, targets: &[Place], job: Job, token: Token) -> Self {
        let search = Search::new(hub, targets, call.patience);
        Self { call, token, stage: Stage::Seeking(search, Some(job)) }
    }

    fn start(&mut self, addresses: Vec<SocketAddr>, job: Job, limits: &Limits<'_>, now: Now) {
        let route = Route::new(addresses, now, self.call.patience, self.token);
        self.stage = match job {
            Job::Ping => Stage::Pinging(Box::new(Ping::new(self.call)), route),
            Job::Run(input, reliability) => {
                let run = Run::new(self.call, input, reliability, limits.silence, now);
                Stage::Running(Box::new(run), route)
            }
        };
    }

    fn advance(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Result<Turn, SendError> {
        let now = hub.clock.now();
        if let Stage::Seeking(search, job) = &mut self.stage {
            let Some(addresses) = search.advance(hub)? else { return Ok(Turn::Wait) };
            if let Some(job) = job.take() {
                self.start(addresses, job, limits, now);
            }
        }
        match &mut self.stage {
            Stage::Seeking(..) => Ok(Turn::Wait),
            Stage::Pinging(ping, route) => ping.turn(hub, route, now),
            Stage::Running(run, route) => run.turn(hub, route, now, limits),
        }
    }
}

impl Peer for Datagrams<'_> {
    /// Every turn tries everything.
    fn on_event(&mut self, _: &Event) {}

    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn {
        self.advance(hub, limits).unwrap_or_else(|e| Turn::Over(Err(e)))
    }

    fn deadline(&self, limits: &Limits<'_>) -> Duration {
        match &self.stage {
            Stage::Seeking(search, _) => search.until,
            Stage::Pinging(ping, route) => ping.next.min(route.until),
            Stage::Running(run, route) => run.next_look(route, limits),
        }
    }

    /// Datagrams have no word for it.
    fn stop(&mut self, _: &Hub) {}

    fn too_slow(&mut self, hub: &Hub, behind: u64) -> SendError {
        match &self.stage {
            Stage::Seeking(..) => SendError::Dial(DialError::NotFound(silent())),
            Stage::Running(run, route) if run.is_proven() => {
                SendError::CutOff(route.address(), Cut::TooSlow(behind))
            }
            Stage::Pinging(_, route) | Stage::Running(_, route) => {
                let silence = NoProof::Silence(hub.clock.now().mono.saturating_sub(route.since()));
                SendError::Dial(DialError::NoProof(route.address(), silence))
            }
        }
    }
}
