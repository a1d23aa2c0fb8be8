//! What one session says: one message after another, from a pipe, from files, from a person.

use std::io;

use super::hub::Bell;
use super::input::{Got, Input};
use crate::proto::stream::meta::Meta;

/// What there is to say next.
#[derive(Debug)]
pub enum Next {
    /// A message that begins like this.
    Message(Meta),
    /// Nothing yet; the bell tells when.
    Later,
    /// Nothing any more: the session is over once everything is answered.
    End,
}

/// What came of a message. Answers come in the order of the messages.
#[derive(Debug)]
pub enum Answer {
    /// It was delivered; so many bytes of it in this session.
    Delivered(u64),
    /// The receiver does not want it: a [`crate::proto::stream::record::RefuseCode`] and a text
    /// that is not fit for a terminal yet.
    Refused(u8, String),
    /// It could not be read to its end, and was given up.
    Unread(io::Error),
}

/// Where the messages of one session come from. It never waits: what does is done by a thread, and
/// the bell tells when there is more.
pub trait Feed {
    /// A session is to say it, of which `bell` is. Whether that rings from now on whenever there is
    /// more; if not, it is asked whenever any bell rings.
    fn rings(&mut self, bell: Bell) -> bool {
        drop(bell);
        false
    }

    /// The next message. It is asked for after the end of the former, or after it was refused or
    /// could not be read.
    ///
    /// # Errors
    /// What ends the session, since there is nothing more to be had.
    fn next(&mut self) -> io::Result<Next>;

    /// The receiver has the first `offset` bytes (or entries) of the message, if their BLAKE3 is
    /// `hash`. Comes at most once, before anything is read, and only for what
    /// [`Meta::asks_resume`].
    fn offered(&mut self, offset: u64, hash: [u8; 32]) {
        let _ = (offset, hash);
    }

    /// After [`Feed::offered`]: where the bytes begin, that offset or 0. `None`: not known yet; the
    /// bell tells when.
    ///
    /// # Errors
    /// The message cannot be read; it is given up.
    fn start(&mut self) -> io::Result<Option<u64>> {
        Ok(Some(0))
    }

    /// More bytes of the message.
    ///
    /// # Errors
    /// The message cannot be read to its end; it is given up.
    fn read(&mut self, space: &mut [u8]) -> io::Result<Got>;

    /// What came of the oldest message that was not answered yet.
    fn answered(&mut self, answer: &Answer) {
        let _ = answer;
    }
}

/// One message: all that an input gives.
pub struct OneMessage {
    meta: Option<Meta>,
    input: Input,
}

impl OneMessage {
    /// `input` as the message that `meta` describes.
    pub fn new(meta: Meta, input: Input) -> Self {
        Self { meta: Some(meta), input }
    }
}

impl Feed for OneMessage {
    fn next(&mut self) -> io::Result<Next> {
        Ok(match self.meta.take() {
            Some(meta) => {
                self.input.begin(meta.id);
                Next::Message(meta)
            }
            None => Next::End,
        })
    }

    fn read(&mut self, space: &mut [u8]) -> io::Result<Got> {
        self.input.read(space)
    }
}
