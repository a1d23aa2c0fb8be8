//! What a command says back in a duplex session: its stdout, as one message.
//!
//! It ends with the command: what is in the pipe then is still said. Who was left behind with the
//! other end, and writes more, writes to nobody.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::run::Ended;
use crate::net::feed::{Answer, Feed, Next};
use crate::net::hub::Bell;
use crate::net::input::{Got, Input};
use crate::proto::stream::meta::Meta;

/// What the receiver of a duplex stream and its feed know of each other.
#[derive(Default)]
pub struct Talk(RefCell<State>);

#[derive(Default)]
enum State {
    /// The command has not started.
    #[default]
    Before,
    /// It has; its stdout was not looked at yet.
    Begun(Meta, Input, Ended),
    /// Its stdout is being read.
    Within,
    /// The peer has all of it, or nobody listens.
    Over,
}

impl Talk {
    /// The command has started and says `input`, as the message `meta`, until it has `ended`.
    pub fn begin(&self, meta: Meta, input: Input, ended: Ended) {
        self.0.replace(State::Begun(meta, input, ended));
    }

    /// There is nothing to be heard, or all of it has arrived.
    pub fn end(&self) {
        self.0.replace(State::Over);
    }

    /// Whether there is nothing more to be heard, and all of it has arrived.
    pub fn is_over(&self) -> bool {
        matches!(*self.0.borrow(), State::Over)
    }
}

/// The feed.
pub struct Voice {
    talk: Rc<Talk>,
    stdout: Option<Stdout>,
    bell: Bell,
}

/// The reading end of a command's stdout.
struct Stdout {
    input: Input,
    ended: Ended,
    /// What was in the pipe when the command had ended, and was not read yet, in bytes.
    left: Option<usize>,
}

impl Stdout {
    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        if self.ended.look().is_some() && self.left.is_none() {
            self.left = Some(self.input.in_pipe()?);
        }
        let Some(left) = &mut self.left else { return self.input.read(space) };
        let most = space.len().min(*left);
        if most == 0 {
            return Ok(Got::End);
        }
        let got = self.input.read(&mut space[..most])?;
        if let Got::Bytes(n) = got {
            *left -= n;
        }
        Ok(got)
    }
}

impl Voice {
    /// What is heard through `talk`.
    pub fn new(talk: Rc<Talk>, bell: Bell) -> Self {
        Self { talk, stdout: None, bell }
    }

    /// All that it said has arrived, or never will.
    fn end(&mut self) {
        self.stdout = None;
        self.talk.end();
        // The receiver may have been waiting for this.
        self.bell.ring();
    }
}

impl Feed for Voice {
    /// The command's does, which is the session's.
    fn rings(&mut self, _: Bell) -> bool {
        true
    }

    fn next(&mut self) -> io::Result<Next> {
        match self.talk.0.replace(State::Within) {
            State::Before => {
                self.talk.0.replace(State::Before);
                Ok(Next::Later)
            }
            State::Begun(meta, input, ended) => {
                self.stdout = Some(Stdout { input, ended, left: None });
                Ok(Next::Message(meta))
            }
            State::Within => {
                self.stdout = None;
                Ok(Next::End)
            }
            State::Over => {
                self.end();
                Ok(Next::End)
            }
        }
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        let Some(stdout) = &mut self.stdout else { return Ok(Got::End) };
        let got = stdout.read(space);
        if !matches!(got, Ok(Got::Bytes(_) | Got::Later)) {
            // Who still writes is told.
            self.stdout = None;
        }
        got
    }

    fn answered(&mut self, _answer: &Answer) {
        self.end();
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.end();
    }
}
