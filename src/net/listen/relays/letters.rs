//! Messages that came whole in cells: to the output, or to somebody who was hired for them.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

use super::Spot;
use crate::net::listen::conn::Shared;
use crate::net::listen::runs::{Run, Runs};
use crate::net::listen::{Heard, Notice, Stage};
use crate::net::receiver::{Progress, Receiver, Route};
use crate::net::sockets::Transport;
use crate::proto::datagram::held::{Held, Message};
use crate::proto::datagram::packet::Way;
use crate::proto::datagram::past::{Extent, Ran};
use crate::proto::datagram::receiver::RunKey;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::time::Now;
use crate::sched::limits::{Limit, Seats};
use crate::sched::party::Source;

/// Messages that are with somebody who was hired, at once.
const MAX_JOBS: usize = 16;

/// What is known of a message that the output has.
struct Letter {
    /// Its length, in bytes.
    total: u64,
    /// When it was made, by its sender's clock, Unix ms.
    time_ms: u64,
}

/// A message that the rate of messages keeps from the output.
struct Resting {
    source: Source,
    run: Run<Letter>,
    content: Vec<u8>,
}

/// A message for somebody who is to be hired.
struct Waiting {
    run: RunKey,
    heard: Heard,
    meta: Meta,
    content: Vec<u8>,
    time_ms: u64,
    source: Source,
    number: usize,
}

/// A message that is with somebody who was hired.
struct Job {
    run: RunKey,
    heard: Heard,
    letter: Letter,
    receiver: Box<dyn Receiver>,
}

/// All that came whole and was not delivered yet.
pub struct Letters {
    /// Those on their way to the output.
    runs: Runs<Letter>,
    resting: VecDeque<Resting>,
    jobs: Vec<Job>,
    waiting: VecDeque<Waiting>,
    /// Messages that have come so far.
    count: u64,
}

impl Letters {
    /// None yet.
    pub fn new() -> Self {
        Self {
            runs: Runs::default(),
            resting: VecDeque::new(),
            jobs: Vec::new(),
            waiting: VecDeque::new(),
            count: 0,
        }
    }

    /// Whether any is on its way.
    pub fn is_busy(&self) -> bool {
        !(self.runs.is_empty() && self.jobs.is_empty() && self.waiting.is_empty())
            || self.is_resting()
    }

    /// How many wait for somebody who is to be hired.
    pub fn for_hire(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Whether any waits because its caller has said much lately.
    pub fn is_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// When [`Letters::work`] has something to do without news.
    pub fn deadline(&self, seats: &Seats) -> Option<Duration> {
        let speaks = |resting: &Resting| seats.may_speak_at(resting.run.heard.caller.party(None));
        let next = self.resting.iter().filter(|resting| !self.is_speaking(resting));
        next.filter_map(speaks).min()
    }

    /// A message came. What nobody wants is declined.
    pub fn arrived(
        &mut self,
        message: Message,
        held: &mut Held<Spot>,
        now: Now,
        shared: &mut Shared<'_>,
    ) {
        let (run, time_ms) = (message.run, message.time_ms);
        let caller = shared.host.admit(run.sender(), run.local(), false);
        let (Some(caller), Some((meta, content))) = (caller, unpack(message)) else {
            return held.declined(&run);
        };
        let source = Source::Cells(self.count);
        self.count += 1;
        let heard = Heard::new(&meta, &caller, Transport::Relay, now);
        match shared.host.route(source, &caller, &meta) {
            Route::Output => {
                let state = Letter { total: content.len() as u64, time_ms };
                let run = Run { key: run, heard, state };
                self.resting.push_back(Resting { source, run, content });
            }
            Route::Receiver(number) => {
                self.waiting.push_back(Waiting {
                    run,
                    heard,
                    meta,
                    content,
                    time_ms,
                    source,
                    number,
                });
            }
            Route::Refused(..) => held.declined(&run),
        }
    }

    /// The output has flushed one.
    pub fn flushed(
        &mut self,
        source: Source,
        held: &mut Held<Spot>,
        now: Now,
        shared: &mut Shared<'_>,
    ) {
        let Some(run) = self.runs.end(source, now.mono, shared) else { return };
        delivered(&run.key, &run.heard, &run.state, held, shared);
    }

    /// Whether a message of the same caller is on its way to the output.
    fn is_speaking(&self, resting: &Resting) -> bool {
        let party = resting.run.heard.caller.party(None);
        self.runs.iter().any(|(_, run)| run.heard.caller.party(None) == party)
    }

    /// Passes on to the output what may speak now. Where there is a rate of messages, each caller's
    /// go one by one, since only what was flushed counts; and the first that waits keeps the others
    /// of its caller waiting, so that their order stays.
    pub fn speak(&mut self, now: Now, shared: &mut Shared<'_>, stage: &mut dyn Stage) {
        let mut kept = BTreeSet::new();
        let mut later = VecDeque::new();
        while let Some(next) = self.resting.pop_front() {
            let party = next.run.heard.caller.party(None);
            let may_at = shared.seats.may_speak_at(party);
            let rests = may_at.is_some_and(|at| at > now.mono);
            if may_at.is_some() && (kept.contains(&party) || rests || self.is_speaking(&next)) {
                if rests && kept.insert(party) {
                    shared.host.notice(Notice::Kept(Limit::Messages, &next.run.heard.caller));
                }
                kept.insert(party);
                later.push_back(next);
                continue;
            }
            let Resting { source, run, content } = next;
            // What is whole needs no more serving.
            self.runs.begin(source, run, false, now.mono, shared);
            shared.mux.data(source, &content, now.mono, stage);
            shared.mux.end(source);
        }
        self.resting = later;
    }

    /// Hires whoever is needed, and takes what the hired have to say; whether that was something.
    pub fn work(&mut self, held: &mut Held<Spot>, now: Now, shared: &mut Shared<'_>) -> bool {
        let mut news = false;
        self.jobs.retain_mut(|job| match job.receiver.progress() {
            None => true,
            Some(Progress::Resume { .. }) => {
                job.receiver.start_at(0);
                true
            }
            Some(progress) => {
                news = true;
                let good = !matches!(progress, Progress::Refused(..));
                match good {
                    true => delivered(&job.run, &job.heard, &job.letter, held, shared),
                    false => held.declined(&job.run),
                }
                shared.run_ended(good);
                false
            }
        });
        news | self.hire(held, now, shared)
    }

    fn hire(&mut self, held: &mut Held<Spot>, now: Now, shared: &mut Shared<'_>) -> bool {
        let mut news = false;
        let mut later = VecDeque::new();
        while let Some(next) = self.waiting.pop_front() {
            // One at a time of each sender: in order.
            let of_same = |run: &RunKey| run.sender() == next.run.sender();
            let busy = self.jobs.iter().any(|job| of_same(&job.run))
                || later.iter().any(|waiting: &Waiting| of_same(&waiting.run));
            if self.jobs.len() >= MAX_JOBS || busy || !shared.run_begins() {
                later.push_back(next);
                continue;
            }
            news = true;
            let run = next.run;
            match engage(next, now, shared) {
                Ok(job) => self.jobs.push(job),
                Err(_) => {
                    held.declined(&run);
                    shared.run_ended(false);
                }
            }
        }
        self.waiting = later;
        news
    }

    /// We end: what is not delivered is not acknowledged, and comes again another time.
    pub fn clear(&mut self, now: Now, shared: &mut Shared<'_>) {
        let sources: Vec<Source> = self.runs.iter().map(|(source, _)| source).collect();
        for source in sources {
            shared.mux.cut(source);
            self.runs.end(source, now.mono, shared);
        }
        self.resting.clear();
        self.jobs.clear();
        self.waiting.clear();
    }
}

fn delivered(
    run: &RunKey,
    heard: &Heard,
    letter: &Letter,
    held: &mut Held<Spot>,
    shared: &mut Shared<'_>,
) {
    let local = shared.keys[run.local()].pair.public();
    let (sender, time_ms) = (run.sender(), letter.time_ms);
    let ran = Ran { way: Way::Relay, local, sender, run: run.run(), time_ms };
    // If not, we are about to end, and it comes again.
    if !shared.remember(&ran, Extent::Whole, heard.caller.known, &[]) {
        return;
    }
    held.delivered(run);
    shared.host.notice(Notice::Delivered(heard, letter.total));
}

/// Gives all of a message to somebody who is hired for it.
fn engage(next: Waiting, now: Now, shared: &mut Shared<'_>) -> io::Result<Job> {
    let Waiting { run, heard, meta, content, time_ms, source, number } = next;
    let mut receiver = shared.host.hire(number, source, &heard.caller)?.receiver;
    receiver.begin_once(&meta, now.unix_ms);
    receiver.data(&content);
    receiver.end();
    let letter = Letter { total: content.len() as u64, time_ms };
    Ok(Job { run, heard, letter, receiver })
}

/// What a message is, and what it says; `None` for what is no message of this kind.
fn unpack(message: Message) -> Option<(Meta, Vec<u8>)> {
    if !message.is_item {
        return Some((Meta::message(message.id.to_bytes(), message.time_ms), message.body));
    }
    let (head, rest) = message.body.split_at_checked(2)?;
    let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let (meta, content) = rest.split_at_checked(len)?;
    let meta = Meta::decode(meta).ok()?;
    let is_file = meta.kind == MessageKind::File as u8 && !meta.more;
    let is_whole = meta.size.is_none_or(|size| size == content.len() as u64);
    (is_file && is_whole).then(|| (meta, content.to_vec()))
}
