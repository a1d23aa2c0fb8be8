//! Who takes the messages of one session that do not go to the output which all sessions share: an
//! inbox, a command, the other half of a duplex stream.

use super::feed::Feed;
use crate::proto::stream::meta::Meta;
use crate::proto::stream::record::RefuseCode;

/// What a receiver says of its messages, in their order.
#[derive(Debug)]
pub enum Progress {
    /// So many bytes (or entries) of the message that began last are here already, with this
    /// BLAKE3. For each message that [`Meta::asks_resume`], unless it is refused.
    Resume {
        /// 0 when nothing is here.
        offset: u64,
        /// Of what is here.
        hash: [u8; 32],
    },
    /// The oldest message without an answer is delivered: all of it is where it belongs.
    Delivered,
    /// The oldest message without an answer, which is still coming, has done what it should: the
    /// rest of it is not needed.
    Sufficed,
    /// The oldest message without an answer, which may still be coming, is not wanted. The text is
    /// for its sender.
    Refused(RefuseCode, String),
}

/// Takes the messages of one session. It never waits: what does is done by a thread, which rings
/// a bell whenever [`Receiver::progress`] or [`Receiver::has_room`] has
/// news. Dropped, it leaves what was not whole as the end of the connection would.
pub trait Receiver {
    /// A message begins, at `now_ms` of our clock (Unix ms).
    fn begin(&mut self, meta: &Meta, now_ms: u64);

    /// The same for a message that may come again, after a restart of ours too, until whoever holds
    /// it was told that it is delivered: an item that came by a relay. It is named by [`Meta::id`]
    /// and its sender. A receiver that keeps what it gets takes it once; when it comes again it is
    /// [`Progress::Delivered`] like the first time.
    fn begin_once(&mut self, meta: &Meta, now_ms: u64) {
        self.begin(meta, now_ms);
    }

    /// Its sender begins at `offset`: the one of [`Progress::Resume`], or 0.
    fn start_at(&mut self, offset: u64) {
        let _ = offset;
    }

    /// More of it. Taken even when there is no room, which is looked at before each read from the
    /// network.
    fn data(&mut self, bytes: &[u8]);

    /// It is whole.
    fn end(&mut self);

    /// Its sender gave it up. Nothing is answered.
    fn abort(&mut self);

    /// Whether more of the session should be read now.
    fn has_room(&self) -> bool;

    /// Whether all its news ring the session's own bell; if not, it is asked whenever any bell rings.
    fn rings(&self) -> bool {
        false
    }

    /// What there is to say, one at a time.
    fn progress(&mut self) -> Option<Progress>;
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the output that all share.
    Output,
    /// To the session's receiver of this number, which is made when it is first needed.
    Receiver(usize),
    /// Nowhere; the text is for its sender.
    Refused(RefuseCode, String),
}

/// Who takes some of a session's messages, and what is said back if anything is.
pub struct Hired {
    /// Takes the messages.
    pub receiver: Box<dyn Receiver>,
    /// What the session says from now on.
    pub feed: Option<Box<dyn Feed>>,
}
