//! One run of a command: a process group, a thread that keeps it, and one that waits for it.
//!
//! The keeper reaps the process only after it has done all that it will ever do to the group: as
//! long as the process waits to be reaped, no other can have its number.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::places::Place;
use crate::net::hub::Bell;
use crate::net::output::Output;
use crate::proto::mux::Ticket;

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
    /// All that it will ever say was read, or nobody listens to it.
    Silent,
    /// End it. What is given here holds its stdin open until it is gone, so that the beginning of a
    /// message never passes for all of it.
    End(Option<OwnedFd>),
}

/// A run, and the writing end of its stdin. Dropped before it ended, it is ended.
pub struct Run {
    stdin: Option<Stdin>,
    ended: Arc<OnceLock<Ending>>,
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
        let writer = File::from(OwnedFd::from(writer));
        let held = OwnedFd::from(writer.try_clone()?);
        command.stdin(stdin).stderr(Stdio::inherit()).process_group(0);
        let stdout = if speaks {
            let (reader, stdout) = io::pipe()?;
            command.stdout(stdout);
            Some(File::from(OwnedFd::from(reader)))
        } else {
            command.stdout(Stdio::inherit());
            None
        };
        let output = Output::by_thread(writer, bell.clone())?;
        let ended = Arc::new(OnceLock::new());
        let keeper = Keeper {
            orders: orders.clone(),
            told,
            timeout,
            late: None,
            silent: !speaks,
            ended: Arc::clone(&ended),
            place,
            bell: bell.clone(),
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
        self.ended.get()
    }

    /// Its stdin ends, and it goes on by itself.
    pub fn release(mut self) {
        self.released = true;
        self.close();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.released && self.ended.get().is_none() {
            let held = self.stdin.take().map(|stdin| stdin.held);
            // Who is over already needs no telling.
            let _ = self.orders.send(Order::End(held));
        }
    }
}

/// Starts a process, waits for it or ends it, and reaps it.
struct Keeper {
    orders: Sender<Order>,
    told: Receiver<Order>,
    timeout: Option<Duration>,
    /// It took longer than this.
    late: Option<Duration>,
    silent: bool,
    ended: Arc<OnceLock<Ending>>,
    place: Place,
    bell: Bell,
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

    /// Returns when the process has ended, and nobody has anything more to do with its group.
    fn follow(&mut self, group: Pid) {
        let mut deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut stage = Stage::Running;
        let mut exited = false;
        let mut held = None;
        while !(exited && (self.silent || stage != Stage::Running)) {
            match self.next(deadline) {
                Some(Order::Exited(ending)) => {
                    exited = true;
                    if stage != Stage::Running {
                        signal(group, Signal::KILL);
                    }
                    self.tell(self.late.map_or(ending, Ending::Late));
                    continue;
                }
                Some(Order::Silent) => {
                    self.silent = true;
                    continue;
                }
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
        }
        if stage != Stage::Running {
            signal(group, Signal::KILL);
        }
        // Only now: whoever of the group still reads its stdin is gone.
        drop(held);
    }

    /// The next order, or none by the deadline.
    fn next(&self, deadline: Option<Instant>) -> Option<Order> {
        match deadline {
            Some(at) => self.told.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
            None => self.told.recv().ok(),
        }
    }

    fn tell(&self, ending: Ending) {
        // What ended it first is what counts.
        let _ = self.ended.set(ending);
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
