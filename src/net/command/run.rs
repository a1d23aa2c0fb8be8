//! One run of a command: a process group, a thread that keeps it, and one that waits for it.
//!
//! It is over when the process ends, whoever else still has its stdin or stdout open.
//!
//! The keeper reaps the process only after it has done all that it will ever do to the group: as
//! long as the process waits to be reaped, no other can have its number.

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::places::Place;
use crate::net::hub::Bell;
use crate::net::output::Output;
use crate::sched::mux::Ticket;

/// What a command may take to end after SIGTERM, before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It was ended because it took longer than this.
    Late(Duration),
    /// It could not be started.
    NotStarted(io::ErrorKind),
    /// Nobody knows: whoever started us has its children's ends thrown away (SIGCHLD ignored).
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::Late(limit) => write!(f, "did not end within {} s", limit.as_secs_f64()),
            Self::NotStarted(io::ErrorKind::NotFound) => {
                f.write_str("cannot be started: no such command")
            }
            Self::NotStarted(why) => write!(f, "cannot be started: {why}"),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// What the keeper is told.
pub enum Order {
    /// The process has ended, and waits to be reaped.
    Exited(Ending),
    /// End it. What is given here holds its stdin open until it is gone, so that the beginning of a
    /// message never passes for all of it.
    End(Option<OwnedFd>),
}

/// Whether a run is over, and how it ended; news of it ring the bell of its session.
#[derive(Clone, Default)]
pub struct Ended(Arc<OnceLock<Ending>>);

impl Ended {
    /// How, if it is over.
    pub fn look(&self) -> Option<&Ending> {
        self.0.get()
    }

    fn set(&self, ending: Ending) {
        // What ended it first is what counts.
        let _ = self.0.set(ending);
    }
}

/// A run, and the writing end of its stdin. Dropped before it ended, it is ended.
pub struct Run {
    stdin: Option<Stdin>,
    ended: Ended,
    orders: Sender<Order>,
    released: bool,
    /// What was flushed when it had closed its stdin.
    flushed: Ticket,
}

struct Stdin {
    output: Output,
    /// The same pipe: while this is open, the command sees no end of its input.
    held: OwnedFd,
}

impl Run {
    /// The two ends of what a keeper is told.
    pub fn orders() -> (Sender<Order>, Receiver<Order>) {
        mpsc::channel()
    }

    /// Starts `command` in a process group of its own, with a pipe as stdin. If it `speaks`, its
    /// stdout is a pipe too, whose reading end is given; else it is ours.
    ///
    /// # Errors
    /// When there are no descriptors or threads left. What is wrong with the command itself comes
    /// as its [`Ending`].
    pub fn start(
        mut command: Command,
        speaks: bool,
        timeout: Option<Duration>,
        (orders, told): (Sender<Order>, Receiver<Order>),
        place: Place,
        bell: &Bell,
    ) -> io::Result<(Self, Option<File>)> {
        let (stdin, writer) = io::pipe()?;
        let held = OwnedFd::from(writer.try_clone()?);
        let (over, keeps) = io::pipe()?;
        command.stdin(stdin).stderr(Stdio::inherit()).process_group(0);
        let stdout = if speaks {
            let (reader, stdout) = io::pipe()?;
            command.stdout(stdout);
            Some(File::from(OwnedFd::from(reader)))
        } else {
            command.stdout(Stdio::inherit());
            None
        };
        let output = Output::by_thread(Words::new(writer, over)?, bell.clone())?;
        let ended = Ended::default();
        let keeper = Keeper {
            orders: orders.clone(),
            told,
            timeout,
            late: None,
            ended: ended.clone(),
            place,
            bell: bell.clone(),
            _keeps: keeps,
        };
        thread::Builder::new().name("command".into()).spawn(move || keeper.keep(command))?;
        let stdin = Some(Stdin { output, held });
        Ok((Self { stdin, ended, orders, released: false, flushed: Ticket(0) }, stdout))
    }

    /// Writes to its stdin; what it does not want is dropped.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            stdin.output.write(bytes);
            stdin.output.push();
        }
    }

    /// A ticket that is flushed once its stdin has all that was written so far; `None` when it
    /// reads no more.
    pub fn mark(&mut self) -> Option<Ticket> {
        self.stdin.as_mut().map(|stdin| stdin.output.mark())
    }

    /// The last ticket that is flushed.
    pub fn flushed(&self) -> Ticket {
        self.stdin.as_ref().map_or(self.flushed, |stdin| stdin.output.flushed())
    }

    /// Whether it reads no more.
    pub fn is_deaf(&self) -> bool {
        self.stdin.is_none()
    }

    /// Whether its stdin takes more, were it only to drop it.
    pub fn has_room(&self) -> bool {
        self.stdin.as_ref().is_none_or(|stdin| stdin.output.has_room())
    }

    /// The end of its stdin, once all is written.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Notices whether it has closed its stdin, which is no error of anybody.
    pub fn look(&mut self) {
        let closed = |stdin: &mut Stdin| stdin.output.take_error().is_some();
        if self.stdin.as_mut().is_some_and(closed) {
            self.flushed = self.flushed();
            self.stdin = None;
        }
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<&Ending> {
        self.ended.look()
    }

    /// The same for who reads what it says.
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Its stdin ends, and it goes on by itself.
    pub fn release(mut self) {
        self.released = true;
        self.close();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.released && self.ended.look().is_none() {
            let held = self.stdin.take().map(|stdin| stdin.held);
            // Who is over already needs no telling.
            let _ = self.orders.send(Order::End(held));
        }
    }
}

/// The writing end of a stdin. Whoever else holds the reading end when the run is over, and does not
/// read, keeps no thread of ours waiting.
struct Words {
    stdin: PipeWriter,
    /// At its end when the run is over.
    over: PipeReader,
}

impl Words {
    fn new(stdin: PipeWriter, over: PipeReader) -> io::Result<Self> {
        // This end is ours alone, so it may be made so for everybody.
        ioctl_fionbio(&stdin, true)?;
        Ok(Self { stdin, over })
    }

    /// Waits until it takes more.
    ///
    /// # Errors
    /// The run is over.
    fn wait(&self) -> io::Result<()> {
        let stdin = PollFd::new(&self.stdin, PollFlags::OUT);
        let mut polled = [stdin, PollFd::new(&self.over, PollFlags::IN)];
        // What is wrong with either the next write says.
        let _ = poll(&mut polled, None);
        let over = polled[0].revents().is_empty() && !polled[1].revents().is_empty();
        if over { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Write for Words {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stdin.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a process, waits for it or ends it, and reaps it.
struct Keeper {
    orders: Sender<Order>,
    told: Receiver<Order>,
    timeout: Option<Duration>,
    /// It took longer than this.
    late: Option<Duration>,
    ended: Ended,
    place: Place,
    bell: Bell,
    /// Closed with the keeper: then the run is over.
    _keeps: PipeWriter,
}

/// What was done to a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Terminated,
    Killed,
}

impl Keeper {
    fn keep(mut self, mut command: Command) {
        match command.spawn() {
            Ok(child) => {
                // It holds the other ends of the pipes.
                drop(command);
                self.keep_child(child);
            }
            Err(e) => self.tell(Ending::NotStarted(e.kind())),
        }
        drop(self.place);
    }

    fn keep_child(&mut self, mut child: Child) {
        let group = Pid::from_child(&child);
        let orders = self.orders.clone();
        let waiter = thread::Builder::new().name("waiter".into()).spawn(move || {
            // The keeper is there until it hears this.
            let _ = orders.send(Order::Exited(wait(group)));
        });
        match waiter {
            Ok(_) => self.follow(group),
            Err(e) => {
                signal(group, Signal::KILL);
                self.tell(Ending::NotStarted(e.kind()));
            }
        }
        // Nothing is left to be learnt from it.
        let _ = child.wait();
    }

    /// Returns when the process has ended.
    fn follow(&mut self, group: Pid) {
        let mut deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut stage = Stage::Running;
        let mut held = None;
        let ending = loop {
            match self.next(deadline) {
                Some(Order::Exited(ending)) => break ending,
                Some(Order::End(stdin)) => held = stdin.or(held),
                None if stage == Stage::Running => self.late = self.timeout,
                None => {}
            }
            (stage, deadline) = match (stage, deadline) {
                (Stage::Running, _) => {
                    signal(group, Signal::TERM);
                    (Stage::Terminated, Some(Instant::now() + GRACE))
                }
                (Stage::Terminated, Some(at)) if at <= Instant::now() => {
                    signal(group, Signal::KILL);
                    (Stage::Killed, None)
                }
                same => same,
            };
        };
        // Whom it left behind in good order goes on; who was to be ended is, with all of the group.
        if stage != Stage::Running {
            signal(group, Signal::KILL);
        }
        // Only now: whoever of the group still reads its stdin is gone.
        drop(held);
        self.tell(self.late.map_or(ending, Ending::Late));
    }

    /// The next order, or none by the deadline.
    fn next(&self, deadline: Option<Instant>) -> Option<Order> {
        match deadline {
            Some(at) => self.told.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
            None => self.told.recv().ok(),
        }
    }

    fn tell(&self, ending: Ending) {
        self.ended.set(ending);
        self.bell.ring();
    }
}

/// Waits for the end of a child, and leaves it to be reaped.
fn wait(child: Pid) -> Ending {
    loop {
        match waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                let killed = status.terminating_signal().map(Ending::Killed);
                let exited = status.exit_status().map(Ending::Exited);
                return killed.or(exited).unwrap_or(Ending::Unknown);
            }
            Ok(None) | Err(_) => return Ending::Unknown,
        }
    }
}

fn signal(group: Pid, signal: Signal) {
    // Who is gone needs none.
    let _ = kill_process_group(group, signal);
}
