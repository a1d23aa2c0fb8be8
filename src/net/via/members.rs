//! A circuit to each program of a group that is there, all of which are told the same.

use std::time::Duration;

use mio::event::Event;

use super::Place;
use super::cells::Cargo;
use super::muster::Instance;
use crate::crypto::sodium::random;
use crate::net::call::Call;
use crate::net::fan::{Fan, Laggard};
use crate::net::feed::OneMessage;
use crate::net::hub::Hub;
use crate::net::send::{Delivered, Limits, SendError, Stream, Task};
use crate::net::several::{Peer, Turn};
use crate::net::tokens::Topic;
use crate::proto::stream::meta::Meta;

/// The members' streams, and what came of those that are over.
pub struct Members<'a> {
    streams: Vec<Option<Stream<'a>>>,
    fan: Option<Fan>,
    results: Vec<Result<Delivered, SendError>>,
}

impl<'a> Members<'a> {
    /// Calls the programs `there`; their connections register as members of recipient number `peer`.
    ///
    /// # Errors
    /// When what is sent cannot be read for each.
    pub fn call(
        call: &'a Call<'a>,
        places: &[Place],
        there: &[Instance],
        cargo: Cargo,
        silence: Duration,
        peer: usize,
    ) -> Result<Self, SendError> {
        let (fan, tasks) = tasks(cargo, there.len())?;
        let stream = |(number, (instance, task)): (usize, (&Instance, Task))| {
            let mut places = places.to_vec();
            for via in places.iter_mut().filter_map(|place| place.via.as_mut()) {
                via.instance = Some(*instance);
            }
            Some(Stream::new(
                call,
                &places,
                task,
                silence,
                Topic::Member { peer, member: number }.token(),
            ))
        };
        let streams = there.iter().zip(tasks).enumerate().map(stream).collect();
        Ok(Self { streams, fan, results: Vec::new() })
    }

    fn over(&mut self) -> Result<Delivered, SendError> {
        let results = std::mem::take(&mut self.results);
        let (done, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        let delivered = done.into_iter().filter_map(Result::ok).max_by_key(|done| done.total);
        let mut failed: Vec<_> = failed.into_iter().filter_map(Result::err).collect();
        failed.sort_by_key(gravity);
        match (failed.into_iter().next(), delivered) {
            // It left in the meantime; the others are who was there.
            (Some(SendError::Dial(_)) | None, Some(delivered)) => Ok(delivered),
            (Some(failure), _) => Err(failure),
            (None, None) => Ok(Delivered { address: None, total: 0 }),
        }
    }

    /// Whom the others do not wait for any longer.
    fn part(&mut self, hub: &Hub) {
        let Some(fan) = &self.fan else { return };
        for Laggard { reader, behind } in fan.tend(hub.clock.now().mono) {
            if let Some(mut stream) = self.streams.get_mut(reader).and_then(Option::take) {
                self.results.push(Err(stream.too_slow(hub, behind)));
            }
        }
    }
}

/// The worst first.
fn gravity(error: &SendError) -> u8 {
    match error {
        SendError::Local(_) | SendError::Input(_) | SendError::Output(_) => 0,
        SendError::Signal(_) => 0,
        SendError::CutOff(..) => 1,
        SendError::Declined(..) => 2,
        SendError::Queued(_) => 3,
        SendError::Dial(_) => 4,
    }
}

/// What each of `count` is told; one input is read once.
fn tasks(cargo: Cargo, count: usize) -> Result<(Option<Fan>, Vec<Task>), SendError> {
    match cargo {
        Cargo::Ping => Ok((None, (0..count).map(|_| Task::Ping).collect())),
        Cargo::Files(mut feed, _) => {
            let task = |_| feed().map(Task::Say).map_err(SendError::Local);
            Ok((None, (0..count).map(task).collect::<Result<_, _>>()?))
        }
        Cargo::Input(input, meta) => {
            let (fan, inputs) = Fan::split(input, count);
            let task = |input| {
                let meta = Meta { id: random(), ..meta.clone() };
                Task::Say(Box::new(OneMessage::new(meta, input)))
            };
            Ok((Some(fan), inputs.into_iter().map(task).collect()))
        }
    }
}

impl Peer for Members<'_> {
    fn on_event(&mut self, event: &Event) {
        let Some(Topic::Member { member, .. }) = Topic::of(event.token()) else { return };
        let stream = self.streams.get_mut(member);
        if let Some(Some(stream)) = stream {
            stream.on_event(event);
        }
    }

    fn turn(&mut self, hub: &Hub, limits: &mut Limits<'_>) -> Turn {
        let mut busy = false;
        for place in &mut self.streams {
            let Some(stream) = place else { continue };
            match stream.turn(hub, limits) {
                Turn::Busy => busy = true,
                Turn::Wait => {}
                Turn::Over(outcome) => {
                    *place = None;
                    self.results.push(outcome);
                }
            }
        }
        self.part(hub);
        if self.streams.iter().all(Option::is_none) {
            return Turn::Over(self.over());
        }
        busy |= self.fan.as_ref().is_some_and(Fan::take_news);
        if busy { Turn::Busy } else { Turn::Wait }
    }

    fn deadline(&self, limits: &Limits<'_>) -> Duration {
        let streams = self.streams.iter().flatten().map(|stream| stream.deadline(limits));
        let fan = self.fan.as_ref().and_then(Fan::deadline);
        streams.chain(fan).min().unwrap_or(Duration::ZERO)
    }

    fn stop(&mut self, hub: &Hub) {
        self.streams.iter_mut().flatten().for_each(|stream| stream.stop(hub));
    }

    fn too_slow(&mut self, hub: &Hub, behind: u64) -> SendError {
        let slow = |stream: &mut Stream<'_>| stream.too_slow(hub, behind);
        let mut errors: Vec<_> = self.streams.iter_mut().flatten().map(slow).collect();
        errors.sort_by_key(gravity);
        let none = || SendError::Local(std::io::ErrorKind::TimedOut.into());
        errors.into_iter().next().unwrap_or_else(none)
    }
}
