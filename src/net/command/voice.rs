//! What a command says back in a duplex session: its stdout, as one message.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use super::run::Order;
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
    Begun(Meta, Input, Sender<Order>),
    /// Its stdout is being read.
    Within,
    /// The peer has all of it, or nobody listens.
    Over,
}

impl Talk {
    /// The command has started and says `input`, as the message `meta`. Its keeper takes `orders`.
    pub fn begin(&self, meta: Meta, input: Input, orders: Sender<Order>) {
        self.0.replace(State::Begun(meta, input, orders));
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
    input: Option<(Input, Sender<Order>)>,
    bell: Bell,
}

impl Voice {
    /// What is heard through `talk`.
    pub fn new(talk: Rc<Talk>, bell: Bell) -> Self {
        Self { talk, input: None, bell }
    }

    /// Nobody reads the command's stdout any more; it is told when it writes.
    fn close(&mut self) {
        if let Some((_, orders)) = self.input.take() {
            // A keeper that is gone needs no telling.
            let _ = orders.send(Order::Silent);
        }
    }

    /// All that it said has arrived, or never will.
    fn end(&mut self) {
        self.close();
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
            State::Begun(meta, input, orders) => {
                self.input = Some((input, orders));
                Ok(Next::Message(meta))
            }
            State::Within => {
                self.close();
                Ok(Next::End)
            }
            State::Over => {
                self.end();
                Ok(Next::End)
            }
        }
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        let Some((input, _)) = &mut self.input else { return Ok(Got::End) };
        let got = input.read(space);
        if !matches!(got, Ok(Got::Bytes(_) | Got::Later)) {
            self.close();
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
