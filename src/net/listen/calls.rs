//! Calls that the program around the loop wants made, until somebody proves the key.

use std::collections::BTreeMap;
use std::time::Duration;

use mio::event::Event;

use super::conn::{Conn, Shared};
use super::host::{Answering, Caller, Notice, Origin, Outgoing};
use super::session::Called;
use crate::net::call::Call;
use crate::net::dial::{CONNECT_TIME, Calling};
use crate::net::hub::Hub;
use crate::net::tokens::Topic;
use crate::sched::party::Source;

/// Calls under way, by the token that their connection will have.
#[derive(Default)]
pub struct Calls<'a>(BTreeMap<usize, Underway<'a>>);

struct Underway<'a> {
    calling: Calling<Call<'a>>,
    callee: Caller,
    called: Called,
}

impl<'a> Calls<'a> {
    /// Makes a call, whose connection will be `token`.
    pub fn begin(
        &mut self,
        token: usize,
        wanted: Outgoing,
        keys: &'a [Answering],
        shared: &Shared<'_>,
    ) {
        let call = Call {
            me: &keys[wanted.key].pair,
            peer: wanted.peer,
            access: wanted.access,
            patience: CONNECT_TIME.min(shared.silence),
            trace: shared.trace,
        };
        let calling = Calling::new(call, &wanted.targets, Topic::Connection(token).token());
        let origin = Origin::Key(wanted.peer);
        let callee = Caller { name: wanted.name, origin, known: wanted.known };
        let Outgoing { number, feed, once, .. } = wanted;
        let called = Called { number, until: Duration::ZERO, feed, once };
        self.0.insert(token, Underway { calling, callee, called });
    }

    /// Takes note of an event; whether it was for a call.
    pub fn on_event(&mut self, token: usize, event: &Event) -> bool {
        let call = self.0.get_mut(&token);
        call.is_some_and(|call| {
            call.calling.on_event(event);
            true
        })
    }

    /// Goes on with all of them: the connections of those that were answered, by token.
    pub fn advance(&mut self, hub: &Hub, shared: &mut Shared<'_>) -> Vec<(usize, Conn)> {
        let mut answered = Vec::new();
        let ended: Vec<_> = self
            .0
            .iter_mut()
            .filter_map(|(token, call)| {
                call.calling.advance(hub).transpose().map(|result| (*token, result))
            })
            .collect();
        for (token, result) in ended {
            let Some(Underway { callee, mut called, .. }) = self.0.remove(&token) else { continue };
            match result {
                Ok(dialed) => {
                    called.until = dialed.until;
                    let id = Source::Connection(token);
                    answered.push((token, Conn::called(dialed, callee, id, called, shared)));
                }
                Err(error) => shared.host.notice(Notice::NotReached(called.number, &error)),
            }
        }
        answered
    }

    /// When [`Calls::advance`] has something to do without news.
    pub fn deadline(&self) -> Option<Duration> {
        self.0.values().map(|call| call.calling.deadline()).min()
    }

    /// Nobody is called any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
