//! A run of the command for each message, one after another.

use std::collections::VecDeque;
use std::rc::Rc;

use super::run::{Ending, Run};
use super::voice::Talk;
use super::{Commands, FAILED};
use crate::crypto::prefix_hash::PrefixHash;
use crate::net::hub::Bell;
use crate::net::listen::Caller;
use crate::net::receiver::{Progress, Receiver};
use crate::proto::stream::meta::Meta;

/// What a session may say ahead while its command waits for a place, in bytes.
const HELD: usize = 64 * 1024;

/// The messages of one session.
pub struct Messages {
    commands: Rc<Commands>,
    caller: Caller,
    bell: Bell,
    /// Those without an answer, oldest first. Only the first one runs.
    jobs: VecDeque<Job>,
    /// What is to be said at once.
    said: VecDeque<Progress>,
    /// What is said back, if the session is a duplex stream.
    talk: Option<Rc<Talk>>,
    /// Some message has begun.
    begun: bool,
}

struct Job {
    meta: Meta,
    work: Work,
    whole: bool,
}

enum Work {
    /// Its number in the queue, once it is the first of the session, and what came so far.
    Waiting(Option<u64>, Vec<u8>),
    Running(Run),
    Refused(String),
}

impl Messages {
    /// Nothing yet of `caller`, in whose session news ring `bell`; what the commands say goes through
    /// `talk`, or to our stdout.
    pub fn new(commands: Rc<Commands>, caller: Caller, bell: Bell, talk: Option<Rc<Talk>>) -> Self {
        let (jobs, said) = (VecDeque::new(), VecDeque::new());
        Self { commands, caller, bell, jobs, said, talk, begun: false }
    }

    /// Starts the first job if there is a place for it. Whoever has said nothing takes none, unless the
    /// command is to speak as well: it may be the first who does.
    fn advance(&mut self) {
        let Some(job) = self.jobs.front_mut() else { return };
        let Work::Waiting(number, held) = &mut job.work else { return };
        if held.is_empty() && !job.whole && self.talk.is_none() {
            return;
        }
        let number =
            *number.get_or_insert_with(|| self.commands.places.queue_up(self.bell.clone()));
        let orders = Run::orders();
        let Some(place) = self.commands.places.take(number, &orders.0) else { return };
        let command = self.commands.command(&self.caller, &job.meta);
        let held = std::mem::take(held);
        job.work =
            match self.commands.start(command, &self.bell, self.talk.as_deref(), orders, place) {
                Ok(mut run) => {
                    run.write(&held);
                    if job.whole {
                        run.close();
                    }
                    Work::Running(run)
                }
                Err(e) => {
                    if let Some(talk) = &self.talk {
                        talk.end();
                    }
                    Work::Refused(Ending::NotStarted(e.kind()).to_string())
                }
            };
    }

    /// What became of the first job, once nothing of it can change any more.
    fn verdict(&mut self) -> Option<Progress> {
        let job = self.jobs.front_mut()?;
        let answer = match &mut job.work {
            Work::Waiting(..) => return None,
            Work::Refused(why) => Progress::Refused(FAILED, std::mem::take(why)),
            Work::Running(run) => {
                run.look();
                let ending = run.ending()?;
                // Who reads of the end may go; it should have heard all that the command said.
                if self.talk.as_ref().is_some_and(|talk| !talk.is_over()) {
                    return None;
                }
                match ending {
                    Ending::Exited(0) if job.whole => Progress::Delivered,
                    Ending::Exited(0) if self.talk.is_some() => Progress::Sufficed,
                    Ending::Exited(0) => return None,
                    other => Progress::Refused(FAILED, other.to_string()),
                }
            }
        };
        let job = self.jobs.pop_front()?;
        if let Progress::Refused(_, why) = &answer {
            (self.commands.tell)(&self.caller, &job.meta, why);
        }
        Some(answer)
    }

    fn leave(&self, job: &Job) {
        if let Work::Waiting(Some(number), _) = job.work {
            self.commands.places.leave(number);
        }
    }
}

impl Receiver for Messages {
    fn begin(&mut self, meta: &Meta, _now_ms: u64) {
        if meta.asks_resume() {
            self.said
                .push_back(Progress::Resume { offset: 0, hash: PrefixHash::default().finish() });
        }
        let second = self.talk.is_some() && std::mem::replace(&mut self.begun, true);
        let work = match second {
            true => Work::Refused("a session carries one stream".into()),
            false => Work::Waiting(None, Vec::new()),
        };
        self.jobs.push_back(Job { meta: meta.clone(), work, whole: false });
        self.advance();
    }

    fn data(&mut self, bytes: &[u8]) {
        match self.jobs.back_mut().map(|job| &mut job.work) {
            Some(Work::Waiting(_, held)) => {
                held.extend_from_slice(bytes);
                self.advance();
            }
            Some(Work::Running(run)) => run.write(bytes),
            Some(Work::Refused(_)) | None => {}
        }
    }

    fn end(&mut self) {
        if let Some(job) = self.jobs.back_mut() {
            job.whole = true;
            if let Work::Running(run) = &mut job.work {
                run.close();
            }
        }
        self.advance();
    }

    fn abort(&mut self) {
        if self.jobs.back().is_some_and(|job| !job.whole)
            && let Some(job) = self.jobs.pop_back()
        {
            self.leave(&job);
        }
    }

    fn has_room(&self) -> bool {
        if let Some(Work::Running(run)) = self.jobs.back().map(|job| &job.work) {
            return run.has_room();
        }
        let held = |job: &Job| match &job.work {
            Work::Waiting(_, held) => held.len(),
            Work::Running(_) | Work::Refused(_) => 0,
        };
        self.jobs.iter().map(held).sum::<usize>() < HELD
    }

    fn rings(&self) -> bool {
        true
    }

    fn progress(&mut self) -> Option<Progress> {
        self.advance();
        if let Some(said) = self.said.pop_front() {
            return Some(said);
        }
        let verdict = self.verdict();
        self.advance();
        verdict
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for job in &self.jobs {
            self.leave(job);
        }
    }
}
