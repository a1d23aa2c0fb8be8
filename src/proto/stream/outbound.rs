//! The order of the messages that we send, and of what is answered, as the sender checks it.
//! PROTOCOL.md, section 3.4.

use std::collections::VecDeque;

use super::meta::Meta;
use super::record::{Kind, Violation, parse_offer, parse_refuse, parse_total};

/// What an answer of the receiver means.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The oldest message without an answer is delivered: so many bytes of DATA.
    Delivered(u64),
    /// It is refused, with a [`super::record::RefuseCode`] and a text. With `current` it is the one
    /// that is being sent: ABORT follows, and nothing more of it.
    Refused {
        /// Why.
        code: u8,
        /// In the receiver's words; not fit for a terminal yet.
        text: String,
        /// Whether it has not ended yet.
        current: bool,
    },
    /// What we gave up is answered.
    GivenUp,
    /// The receiver has so many bytes or entries of the current message, with this BLAKE3.
    Offered(u64, [u8; 32]),
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    /// META was sent, and the receiver's RESUME is awaited.
    Asked,
    /// It has come, and ours is awaited.
    Offered,
    /// DATA may be sent.
    Flowing,
}

#[derive(Debug, PartialEq, Eq)]
enum Unanswered {
    /// END was sent, with this total.
    Ended(u64),
    /// ABORT was sent.
    GivenUp,
}

/// Where our messages stand.
#[derive(Debug, Default)]
pub struct Outbound {
    state: State,
    /// Bytes of DATA of the current message.
    sent: u64,
    /// Whether the current one is answered even if we give it up.
    always_answered: bool,
    /// Those that are over, oldest first.
    unanswered: VecDeque<Unanswered>,
}

impl Outbound {
    /// META was sent.
    pub fn begin(&mut self, meta: &Meta) {
        debug_assert_eq!(self.state, State::Between, "one message at a time");
        self.state = if meta.asks_resume() { State::Asked } else { State::Flowing };
        self.sent = 0;
        self.always_answered = meta.is_always_answered();
    }

    /// Our RESUME was sent.
    pub fn start(&mut self) {
        debug_assert_eq!(self.state, State::Offered, "it answers the receiver's");
        self.state = State::Flowing;
    }

    /// So many bytes of DATA were sent.
    pub fn sent(&mut self, len: usize) {
        debug_assert_eq!(self.state, State::Flowing, "DATA has no place here");
        self.sent += len as u64;
    }

    /// The current message is whole: the total for END.
    pub fn end(&mut self) -> u64 {
        debug_assert_eq!(self.state, State::Flowing, "END has no place here");
        self.state = State::Between;
        self.unanswered.push_back(Unanswered::Ended(self.sent));
        self.sent
    }

    /// We give up the current message: ABORT was sent. Whether that will be answered. Who waits for
    /// RESUME waits on: it may be on its way, and would have no place then.
    pub fn give_up(&mut self) -> bool {
        debug_assert_ne!(self.state, State::Asked, "RESUME is awaited");
        self.state = State::Between;
        if self.always_answered {
            self.unanswered.push_back(Unanswered::GivenUp);
        }
        self.always_answered
    }

    /// Takes ACK, REFUSE, or the receiver's RESUME.
    ///
    /// # Errors
    /// [`Violation`] for what answers nothing, or another total.
    pub fn hear(&mut self, kind: Kind, body: &[u8]) -> Result<Reply, Violation> {
        match kind {
            Kind::Ack => match self.unanswered.pop_front() {
                Some(Unanswered::Ended(total)) if parse_total(body)? == total => {
                    Ok(Reply::Delivered(total))
                }
                _ => Err(Violation::OutOfOrder),
            },
            Kind::Refuse => {
                let (code, text) = parse_refuse(body)?;
                match self.unanswered.pop_front() {
                    Some(Unanswered::Ended(_)) => Ok(Reply::Refused { code, text, current: false }),
                    Some(Unanswered::GivenUp) => Ok(Reply::GivenUp),
                    None if self.state == State::Between => Err(Violation::OutOfOrder),
                    None => {
                        self.state = State::Between;
                        Ok(Reply::Refused { code, text, current: true })
                    }
                }
            }
            Kind::Resume if self.state == State::Asked => {
                let (offset, hash) = parse_offer(body)?;
                self.state = State::Offered;
                Ok(Reply::Offered(offset, hash))
            }
            _ => Err(Violation::OutOfOrder),
        }
    }

    /// Whether everything that began is over and answered.
    pub fn is_idle(&self) -> bool {
        self.state == State::Between && self.unanswered.is_empty()
    }
}
