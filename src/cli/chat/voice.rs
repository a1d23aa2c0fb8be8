//! What one session of a chat says: a greeting, if we called, and then the lines of its peer's queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::host::fetch::Notes;
use super::talk::{Line, Talk};
use crate::cli::send::why;
use crate::net::feed::{Answer, Feed, Next};
use crate::net::hub::Bell;
use crate::net::input::Got;
use crate::proto::stream::meta::{MessageKind, Meta};
use crate::proto::stream::record::RefuseCode;
use crate::sched::party::Source;

/// What all sessions of a chat speak from.
pub struct Mouth {
    /// Lines.
    pub talk: Rc<RefCell<Talk>>,
    /// What waits to be fetched.
    pub notes: Rc<RefCell<Notes>>,
    /// Wakes the loop, so that what an answer means is shown.
    pub bell: Bell,
}

/// A feed of lines.
pub struct Voice {
    mouth: Mouth,
    /// Which session, once there is one.
    session: Rc<Cell<Option<Source>>>,
    greeting: Greeting,
    /// The line that is being said, and how much of it was.
    current: Option<(Rc<Line>, usize)>,
    /// What was said and not answered: a line, or the id of what waits.
    said: VecDeque<Option<[u8; 16]>>,
    /// How often we want a sign of life, ms.
    keepalive_ms: Option<u64>,
}

enum Greeting {
    /// To be said.
    Due(Meta),
    /// Said, and not answered.
    Said,
    /// Refused, which nobody was told.
    Refused,
    /// None, or answered.
    Over,
}

impl Voice {
    /// Of a session that they began.
    pub fn answering(mouth: Mouth, session: Source) -> Self {
        Self::new(mouth, Rc::new(Cell::new(Some(session))), Greeting::Over, None)
    }

    /// Of a session that we begin with `greeting`; `session` will say which.
    pub fn calling(mouth: Mouth, session: Rc<Cell<Option<Source>>>, greeting: Meta) -> Self {
        let keepalive_ms = greeting.keepalive_ms;
        Self::new(mouth, session, Greeting::Due(greeting), keepalive_ms)
    }

    fn new(
        mouth: Mouth,
        session: Rc<Cell<Option<Source>>>,
        greeting: Greeting,
        keepalive_ms: Option<u64>,
    ) -> Self {
        Self { mouth, session, greeting, current: None, said: VecDeque::new(), keepalive_ms }
    }
}

impl Feed for Voice {
    /// Whoever types rings it.
    fn rings(&mut self, _: Bell) -> bool {
        true
    }

    fn next(&mut self) -> io::Result<Next> {
        if let Greeting::Due(meta) = &self.greeting {
            let meta = meta.clone();
            self.greeting = Greeting::Said;
            return Ok(Next::Message(meta));
        }
        let Some(session) = self.session.get() else { return Ok(Next::Later) };
        if matches!(self.greeting, Greeting::Refused) {
            self.greeting = Greeting::Over;
            self.mouth.talk.borrow_mut().mute(session);
            self.mouth.bell.ring();
        }
        if let Some(meta) = self.mouth.notes.borrow_mut().next(session) {
            self.said.push_back(Some(meta.id));
            return Ok(Next::Message(meta));
        }
        let Some(line) = self.mouth.talk.borrow_mut().next(session) else { return Ok(Next::Later) };
        self.said.push_back(None);
        let mut meta = Meta::message(line.id, line.typed_ms);
        meta.kind = MessageKind::ChatLine as u8;
        meta.size = Some(line.text.len() as u64 + 1);
        meta.keepalive_ms = self.keepalive_ms;
        self.current = Some((line, 0));
        Ok(Next::Message(meta))
    }

    /// The text, and a line end: what is heard by a pipe should be lines.
    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        let Some((line, said)) = &mut self.current else { return Ok(Got::End) };
        let rest = &line.text[(*said).min(line.text.len())..];
        let taken = rest.len().min(space.len());
        space[..taken].copy_from_slice(&rest[..taken]);
        let ends = taken == rest.len() && taken < space.len();
        if ends {
            space[taken] = b'\n';
            self.current = None;
        } else {
            *said += taken;
        }
        Ok(Got::Bytes(taken + usize::from(ends)))
    }

    fn answered(&mut self, answer: &Answer) {
        if matches!(self.greeting, Greeting::Said) {
            // It may come together with what lets us in, before the session has its name.
            self.greeting = match answer {
                Answer::Refused(..) => Greeting::Refused,
                _ => Greeting::Over,
            };
            return;
        }
        let Some(session) = self.session.get() else { return };
        self.mouth.bell.ring();
        if let Some(Some(id)) = self.said.pop_front() {
            return self.mouth.notes.borrow_mut().answered(id, answer);
        }
        let mut talk = self.mouth.talk.borrow_mut();
        match answer {
            Answer::Delivered(_) => talk.answered(session, None),
            // They are about to end, and may come back.
            Answer::Refused(code, _) if *code == RefuseCode::Enough as u8 => {
                talk.postponed(session);
            }
            Answer::Refused(code, text) => {
                talk.answered(session, Some(why::declined(*code, text).message));
            }
            Answer::Unread(e) => talk.answered(session, Some(e.to_string())),
        }
    }
}
