//! Somebody on the path between a sender and a listener: passes bytes on, keeps a copy of the first
//! of them, and stops or cuts the connection when the test says so.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::common::{DEADLINE, eventually};

/// What is kept of each direction, in bytes.
const KEPT: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Passing,
    Frozen,
    Cut,
}

struct State {
    mode: Mode,
    /// Bytes that came from the sender.
    taken: usize,
    /// Bytes passed on from the sender.
    passed: usize,
    /// Bytes passed on from the listener.
    answered: usize,
    /// The first bytes of the sender.
    recorded: Vec<u8>,
    /// Both ends of each connection that is not over, by its number.
    sockets: BTreeMap<usize, [TcpStream; 2]>,
    joined: usize,
    /// How many reads a frozen network holds back.
    held: usize,
    /// The port that connections are passed on to.
    target: u16,
}

/// A TCP proxy in front of one port of this machine. At its end everything is cut.
pub struct Proxy {
    port: u16,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// Listens on a port of its own and passes every connection on to `target`.
    pub fn to(target: u16) -> Self {
        Self::with_ear(TcpListener::bind("127.0.0.1:0").unwrap(), target)
    }

    /// The same, with so little room that a sender's socket never takes much at once: as on a
    /// slow network.
    pub fn narrow(target: u16) -> Self {
        let ear = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&ear).set_recv_buffer_size(8 * 1024).unwrap();
        Self::with_ear(ear, target)
    }

    fn with_ear(ear: TcpListener, target: u16) -> Self {
        let port = ear.local_addr().unwrap().port();
        let state = State {
            mode: Mode::Passing,
            taken: 0,
            passed: 0,
            answered: 0,
            recorded: Vec::new(),
            sockets: BTreeMap::new(),
            joined: 0,
            held: 0,
            target,
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for sender in ear.incoming() {
                let state = theirs.0.lock().unwrap();
                let (mode, target) = (state.mode, state.target);
                drop(state);
                if mode == Mode::Cut {
                    return;
                }
                let sender = sender.unwrap();
                // Nobody there: the sender finds its connection closed.
                if let Ok(listener) = TcpStream::connect(("127.0.0.1", target)) {
                    join(sender, listener, &theirs);
                }
            }
        });
        Self { port, shared }
    }

    /// `NAME@127.0.0.1:PORT`, to send to through this proxy.
    pub fn destination(&self, name: &str) -> String {
        format!("{name}@127.0.0.1:{}", self.port)
    }

    /// Where it listens, on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The first bytes that a sender sent, once there are `len` of them.
    pub fn recorded(&self, len: usize) -> Vec<u8> {
        eventually("a record of the sender's bytes", DEADLINE, || {
            let state = self.shared.0.lock().unwrap();
            state.recorded.get(..len).map(<[u8]>::to_vec)
        })
    }

    /// Bytes that came from senders until now, among them all that were ever answered.
    pub fn taken(&self) -> usize {
        self.shared.0.lock().unwrap().taken
    }

    /// Waits until `len` bytes of senders were passed on.
    pub fn wait_passed(&self, len: usize) {
        self.wait_passed_within(len, DEADLINE);
    }

    /// The same for what takes longer.
    pub fn wait_passed_within(&self, len: usize, deadline: Duration) {
        eventually("bytes through the proxy", deadline, || {
            (self.shared.0.lock().unwrap().passed >= len).then_some(())
        });
    }

    /// Waits until `len` bytes of the listener were passed on.
    pub fn wait_answered(&self, len: usize) {
        eventually("bytes back through the proxy", DEADLINE, || {
            (self.shared.0.lock().unwrap().answered >= len).then_some(())
        });
    }

    /// From here on nothing is passed on either way, and no connection is closed: a dead network.
    pub fn freeze(&self) {
        self.shared.0.lock().unwrap().mode = Mode::Frozen;
    }

    /// From here on connections are passed on to another port.
    pub fn lead_to(&self, target: u16) {
        self.shared.0.lock().unwrap().target = target;
    }

    /// Waits until a frozen network holds back so many reads.
    pub fn wait_held(&self, reads: usize) {
        eventually("something held back", DEADLINE, || {
            (self.shared.0.lock().unwrap().held >= reads).then_some(())
        });
    }

    /// Drops what is held back, closes every connection, and passes new ones on.
    pub fn interrupt(&self) {
        let mut state = self.shared.0.lock().unwrap();
        for socket in std::mem::take(&mut state.sockets).into_values().flatten() {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        state.mode = Mode::Passing;
        self.shared.1.notify_all();
    }

    /// Closes both connections in the middle of whatever they carried.
    pub fn cut(&self) {
        let mut state = self.shared.0.lock().unwrap();
        state.mode = Mode::Cut;
        for socket in std::mem::take(&mut state.sockets).into_values().flatten() {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.shared.1.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        // The accepting thread sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn join(sender: TcpStream, listener: TcpStream, shared: &Arc<(Mutex<State>, Condvar)>) {
    let copy = |socket: &TcpStream| socket.try_clone().unwrap();
    let mut state = shared.0.lock().unwrap();
    state.joined += 1;
    let number = state.joined;
    state.sockets.insert(number, [copy(&sender), copy(&listener)]);
    drop(state);
    let over = Arc::new(AtomicBool::new(false));
    for (from, to, record) in
        [(copy(&sender), copy(&listener), true), (copy(&listener), copy(&sender), false)]
    {
        let (shared, over) = (Arc::clone(shared), Arc::clone(&over));
        std::thread::spawn(move || {
            pass(from, to, record, &shared);
            if over.swap(true, Ordering::Relaxed) {
                shared.0.lock().unwrap().sockets.remove(&number);
            }
        });
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, record: bool, shared: &(Mutex<State>, Condvar)) {
    let mut space = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut space) {
        let frozen = |state: &mut State| state.mode == Mode::Frozen;
        let mut state = shared.0.lock().unwrap();
        if frozen(&mut state) {
            state.held += 1;
            state = shared.1.wait_while(state, frozen).unwrap();
            state.held -= 1;
        }
        if record {
            let room = KEPT.saturating_sub(state.recorded.len()).min(len);
            state.recorded.extend_from_slice(&space[..room]);
            state.taken += len;
        }
        drop(state);
        if to.write_all(&space[..len]).is_err() {
            break;
        }
        let mut state = shared.0.lock().unwrap();
        *if record { &mut state.passed } else { &mut state.answered } += len;
    }
    // A frozen network carries no goodbye either.
    let mode = shared.1.wait_while(shared.0.lock().unwrap(), |s| s.mode == Mode::Frozen);
    drop(mode);
    let _ = to.shutdown(Shutdown::Write);
}
