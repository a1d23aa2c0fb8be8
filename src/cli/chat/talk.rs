//! Who takes part in a chat, what waits to be said to whom, and when somebody who went away is
//! called again. Pure: what happened and the time in, what to do and what to show out.
//!
//! Each of those who take part has a queue. The newest session with them takes its lines in their
//! order, and a line leaves it when it is answered. What another session took and was not answered
//! is taken again, under the same id, so that the other side knows it again ([`super::seen`]).

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::keyboard::MAX_LINE;
use crate::crypto::sodium::PublicKey;
use crate::sched::party::Source;

/// So many lines of one session may be unanswered.
pub const IN_FLIGHT: usize = 256;
/// So many lines wait for one who is away.
const MAX_LINES: usize = 1000;
/// So many bytes of lines do: while one of the longest is on its way, there is room for another.
const MAX_BYTES: usize = 2 * MAX_LINE;
/// So many may take part.
const MAX_PEERS: usize = 1024;
/// The first call after a connection was lost comes after this; each further one after twice the
/// time before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Calls come at least this often.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A line that was typed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its message id.
    pub id: [u8; 16],
    /// When it was typed, Unix ms.
    pub typed_ms: u64,
    /// What it says, without its line end; any bytes, if it came from a pipe.
    pub text: Vec<u8>,
}

/// What somebody should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// They are here.
    Here(String),
    /// Their connection was lost; whether we call them again.
    Lost(String, bool),
    /// They went; whether we call them again.
    Left(String, bool),
    /// Their connection was lost, and nobody waits for them.
    Gone(String),
    /// They hear us, and do not chat.
    Mute(String),
    /// They have it.
    Delivered {
        /// What.
        line: Rc<Line>,
        /// Whose key.
        key: PublicKey,
        /// Who.
        to: String,
        /// They were here when it was typed, and were the last of so many who have it now.
        last_of: Option<usize>,
        /// They were away when it was typed.
        late: bool,
    },
    /// They do not want it, or never got it.
    Undelivered {
        /// What.
        line: Rc<Line>,
        /// Whose key.
        key: PublicKey,
        /// Who.
        to: String,
        /// Why, as they said; not fit for a terminal yet.
        why: String,
    },
}

/// To whom a line goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// They are here.
    pub here: Vec<String>,
    /// They get it when they are back.
    pub away: Vec<String>,
    /// Too much waits for them already: they do not get it.
    pub full: Vec<String>,
}

/// Why nobody gets a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaid {
    /// Nobody takes part.
    Nobody,
    /// Nobody who takes part is called so.
    Unknown,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// They said that they go.
    Goodbye,
    /// The connection broke.
    Loss,
    /// The same with somebody who is not waited for, unless we call them.
    Gone,
}

/// One who takes part, for `/list`.
#[derive(Debug, PartialEq, Eq)]
pub struct Present {
    /// Whose.
    pub key: PublicKey,
    /// Petname, or what stands for one.
    pub name: String,
    /// A session is there.
    pub here: bool,
    /// We call them.
    pub called: bool,
    /// Lines that are not acknowledged.
    pub waiting: usize,
}

/// When somebody is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Not by us.
    Never,
    /// At this time.
    At(Duration),
    /// Being called.
    Underway,
    /// Here.
    Answered,
}

struct Peer {
    key: PublicKey,
    name: String,
    call: Call,
    /// How long the next wait before a call is.
    wait: Duration,
    /// The last one takes the lines.
    sessions: Vec<Session>,
    queue: VecDeque<Entry>,
    bytes: usize,
}

struct Session {
    id: Source,
    /// The ids of the lines that it took and that it has no answer to, in their order.
    taken: VecDeque<[u8; 16]>,
}

struct Entry {
    said: Rc<Outstanding>,
    /// They were away when it was typed.
    late: bool,
    /// The session that took it last.
    taken_by: Option<Source>,
}

/// A line on its way to several.
struct Outstanding {
    line: Rc<Line>,
    /// Those who were here when it was typed and have not answered.
    open: Cell<usize>,
    /// How many they were.
    here: Cell<usize>,
}

impl Entry {
    /// What came of it with one of those whom it is for.
    fn outcome(self, key: PublicKey, to: &str, refused: Option<String>) -> Event {
        let Self { said, late, .. } = self;
        if !late {
            said.open.update(|open| open - 1);
        }
        let (line, to) = (Rc::clone(&said.line), to.to_owned());
        match refused {
            Some(why) => Event::Undelivered { line, key, to, why },
            None => {
                let last_of = (!late && said.open.get() == 0).then(|| said.here.get());
                Event::Delivered { line, key, to, last_of, late }
            }
        }
    }
}

impl Peer {
    fn is_here(&self) -> bool {
        !self.sessions.is_empty()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < MAX_LINES && self.bytes + bytes <= MAX_BYTES
    }
}

/// A chat.
#[derive(Default)]
pub struct Talk {
    peers: Vec<Peer>,
    events: VecDeque<Event>,
}

impl Talk {
    /// Somebody takes part whom we call, now. If they are here already, nothing changes but that
    /// they will be called again.
    pub fn join(&mut self, key: PublicKey, name: &str, now: Duration) {
        let Some(peer) = self.enter(key, name) else { return };
        if peer.is_here() {
            peer.call = Call::Answered;
        } else if peer.call != Call::Underway {
            peer.call = Call::At(now);
            peer.wait = FIRST_WAIT;
        }
    }

    /// Whom to call now; how it goes is told by [`Talk::opened`] or [`Talk::unanswered`].
    pub fn due(&mut self, now: Duration) -> Option<PublicKey> {
        let is_due = |call| matches!(call, Call::At(at) if at <= now);
        let peer = self.peers.iter_mut().find(|peer| is_due(peer.call))?;
        peer.call = Call::Underway;
        Some(peer.key)
    }

    /// When [`Talk::due`] has something to say without news.
    pub fn deadline(&self) -> Option<Duration> {
        let times = self.peers.iter().filter_map(|peer| match peer.call {
            Call::At(at) => Some(at),
            _ => None,
        });
        times.min()
    }

    /// A call did not succeed; it is tried again later.
    pub fn unanswered(&mut self, key: &PublicKey, now: Duration) {
        let Some(peer) = self.peer(key) else { return };
        if peer.call == Call::Underway {
            peer.call = Call::At(now + peer.wait);
            peer.wait = (peer.wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Nobody calls them any more; what waits for them is not delivered.
    pub fn give_up(&mut self, key: &PublicKey, why: &str) {
        let Some(at) = self.peers.iter().position(|peer| peer.key == *key) else { return };
        if self.peers[at].is_here() {
            // They called us meanwhile.
            self.peers[at].call = Call::Never;
            return;
        }
        let peer = self.peers.remove(at);
        self.drop_lines(peer, why);
    }

    /// A session with `key` begins. `false`: too many take part, and it is not a part of this.
    pub fn opened(&mut self, session: Source, key: PublicKey, name: &str) -> bool {
        let Some(peer) = self.enter(key, name) else { return false };
        let was_here = peer.is_here();
        // An old session may be a dead one: what it took and was not answered goes to the new one.
        peer.sessions.push(Session { id: session, taken: VecDeque::new() });
        if peer.call != Call::Never {
            peer.call = Call::Answered;
            peer.wait = FIRST_WAIT;
        }
        if !was_here {
            let here = Event::Here(peer.name.clone());
            self.events.push_back(here);
        }
        true
    }

    /// A session has ended.
    pub fn closed(&mut self, session: Source, how: Parting, now: Duration) {
        let holds = |peer: &Peer| peer.sessions.iter().any(|other| other.id == session);
        let Some(at) = self.peers.iter().position(holds) else { return };
        let peer = &mut self.peers[at];
        peer.sessions.retain(|other| other.id != session);
        if peer.is_here() {
            return;
        }
        let name = peer.name.clone();
        let called = peer.call != Call::Never;
        if called {
            peer.call = Call::At(now + peer.wait);
            peer.wait = (peer.wait * 2).min(LONGEST_WAIT);
        }
        let (event, why) = match how {
            Parting::Goodbye => (Event::Left(name, called), "they left before it was delivered"),
            Parting::Gone if !called => (Event::Gone(name), "the connection was lost before that"),
            Parting::Gone | Parting::Loss => {
                self.events.push_back(Event::Lost(name, called));
                return;
            }
        };
        self.events.push_back(event);
        if !called {
            let peer = self.peers.remove(at);
            self.drop_lines(peer, why);
        }
    }

    /// A line to all who take part.
    ///
    /// # Errors
    /// [`Unsaid::Nobody`].
    pub fn say(&mut self, line: Line) -> Result<Said, Unsaid> {
        self.say_to(line, |_| true).ok_or(Unsaid::Nobody)
    }

    /// A line to the one of this name alone.
    ///
    /// # Errors
    /// [`Unsaid::Unknown`].
    pub fn tell(&mut self, name: &str, line: Line) -> Result<Said, Unsaid> {
        self.say_to(line, |peer| peer.name == name).ok_or(Unsaid::Unknown)
    }

    fn say_to(&mut self, line: Line, whom: impl Fn(&Peer) -> bool) -> Option<Said> {
        let line = Rc::new(line);
        let outstanding =
            Outstanding { line: Rc::clone(&line), open: Cell::new(0), here: Cell::new(0) };
        let outstanding = Rc::new(outstanding);
        let mut said = None;
        for peer in self.peers.iter_mut().filter(|peer| whom(peer)) {
            let said = said.get_or_insert_with(Said::default);
            let late = !peer.is_here();
            let list = match peer.has_room(line.text.len()) {
                false => &mut said.full,
                true if late => &mut said.away,
                true => &mut said.here,
            };
            list.push(peer.name.clone());
            if peer.has_room(line.text.len()) {
                peer.bytes += line.text.len();
                peer.queue.push_back(Entry { said: Rc::clone(&outstanding), late, taken_by: None });
                outstanding.open.update(|open| open + usize::from(!late));
                outstanding.here.set(outstanding.open.get());
            }
        }
        said
    }

    /// The next line for this session to say.
    pub fn next(&mut self, session: Source) -> Option<Rc<Line>> {
        let carries = |peer: &&mut Peer| peer.sessions.last().is_some_and(|s| s.id == session);
        let Peer { sessions, queue, .. } = self.peers.iter_mut().find(carries)?;
        let taken = &mut sessions.last_mut()?.taken;
        if taken.len() >= IN_FLIGHT {
            return None;
        }
        let entry = queue.iter_mut().find(|entry| entry.taken_by != Some(session))?;
        entry.taken_by = Some(session);
        taken.push_back(entry.said.line.id);
        Some(Rc::clone(&entry.said.line))
    }

    /// The oldest line that this session took and that was not answered is now; `refused` says why
    /// it is not delivered.
    pub fn answered(&mut self, session: Source, refused: Option<String>) {
        for peer in &mut self.peers {
            let Some(of) = peer.sessions.iter_mut().find(|other| other.id == session) else {
                continue;
            };
            let Some(id) = of.taken.pop_front() else { return };
            // Another session may have had an answer before.
            let Some(at) = peer.queue.iter().position(|entry| entry.said.line.id == id) else {
                return;
            };
            let Some(entry) = peer.queue.remove(at) else { return };
            peer.bytes -= entry.said.line.text.len();
            self.events.push_back(entry.outcome(peer.key, &peer.name, refused));
            return;
        }
    }

    /// The oldest line that this session took and that was not answered is not taken now; it waits
    /// for another session.
    pub fn postponed(&mut self, session: Source) {
        let mut sessions = self.peers.iter_mut().flat_map(|peer| &mut peer.sessions);
        if let Some(of) = sessions.find(|other| other.id == session) {
            of.taken.pop_front();
        }
    }

    /// Who has this session only hears.
    pub fn mute(&mut self, session: Source) {
        let has = |peer: &&Peer| peer.sessions.iter().any(|other| other.id == session);
        if let Some(peer) = self.peers.iter().find(has) {
            self.events.push_back(Event::Mute(peer.name.clone()));
        }
    }

    /// What to tell, in the order in which it happened.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether anybody takes part.
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Whether everybody who takes part can be told one more line of this many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.peers.iter().all(|peer| peer.has_room(bytes))
    }

    /// Whether everything that was said is answered.
    pub fn is_settled(&self) -> bool {
        self.peers.iter().all(|peer| peer.queue.is_empty())
    }

    /// Whether nobody who is here has something to answer.
    pub fn is_settled_here(&self) -> bool {
        self.peers.iter().all(|peer| peer.queue.is_empty() || !peer.is_here())
    }

    /// Whether anybody is here.
    pub fn has_company(&self) -> bool {
        self.peers.iter().any(Peer::is_here)
    }

    /// Whether they are here.
    pub fn is_here(&self, key: &PublicKey) -> bool {
        self.peers.iter().any(|peer| peer.key == *key && peer.is_here())
    }

    /// The session that takes their lines, if they are here.
    pub fn session(&self, key: &PublicKey) -> Option<Source> {
        let peer = self.peers.iter().find(|peer| peer.key == *key)?;
        peer.sessions.last().map(|session| session.id)
    }

    /// The sessions that take the lines of those who are here.
    pub fn sessions(&self) -> impl Iterator<Item = Source> {
        self.peers.iter().filter_map(|peer| peer.sessions.last().map(|session| session.id))
    }

    /// Who takes part, in the order in which they came.
    pub fn present(&self) -> Vec<Present> {
        let present = |peer: &Peer| Present {
            key: peer.key,
            name: peer.name.clone(),
            here: peer.is_here(),
            called: peer.call != Call::Never,
            waiting: peer.queue.len(),
        };
        self.peers.iter().map(present).collect()
    }

    /// The end: what was not delivered is told as such.
    pub fn end(&mut self, why: &str) {
        for peer in std::mem::take(&mut self.peers) {
            self.drop_lines(peer, why);
        }
    }

    fn drop_lines(&mut self, peer: Peer, why: &str) {
        for entry in peer.queue {
            self.events.push_back(entry.outcome(peer.key, &peer.name, Some(why.to_owned())));
        }
    }

    fn peer(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.key == *key)
    }

    /// The one with this key, who takes part from now on; `None` if that are too many.
    fn enter(&mut self, key: PublicKey, name: &str) -> Option<&mut Peer> {
        if let Some(at) = self.peers.iter().position(|peer| peer.key == key) {
            let peer = &mut self.peers[at];
            if peer.name != name {
                name.clone_into(&mut peer.name);
            }
            return Some(peer);
        }
        if self.peers.len() == MAX_PEERS {
            // Whoever is away and has nothing to expect makes room.
            let idle = |p: &Peer| !p.is_here() && p.call == Call::Never && p.queue.is_empty();
            let at = self.peers.iter().position(idle)?;
            self.peers.remove(at);
        }
        self.peers.push(Peer {
            key,
            name: name.to_owned(),
            call: Call::Never,
            wait: FIRST_WAIT,
            sessions: Vec::new(),
            queue: VecDeque::new(),
            bytes: 0,
        });
        self.peers.last_mut()
    }
}
