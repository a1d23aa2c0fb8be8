//! What one link reads: which mailboxes, in which order, and how far. PROTOCOL.md, 5.3 and 5.5.
//!
//! Mailboxes are wanted in chains, one for each channel: that of an older epoch is LIVE before the
//! next one is asked for, so that what a sender posted over midnight comes in order. How far a
//! mailbox was read survives the link; a cell is acknowledged when it and all before it are decided.
//! Where there is no room for one sender's cells its mailbox is *paused*: what it holds is left at the
//! relay, and read later from there on.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::cell::{Address, Cell, FLAG_VOLATILE, Log};
use super::mailbox::{Channel, EPOCH_MS, Mailbox, epoch};
use crate::crypto::sodium::PublicKey;
use crate::proto::time::Now;

/// The next epoch's mailbox is read for so long before it begins, in milliseconds.
const EARLY_MS: u64 = 10 * 60 * 1000;
/// Mailboxes that are asked for before the first of them is LIVE.
const MAX_ASKED: usize = 64;
/// A mailbox that the relay refuses is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Whose cells a channel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// A contact's.
    Pair(PublicKey),
    /// Those of the members of a group: what is read there is never acknowledged.
    Group,
    /// Anybody's. It is read after all others of the same key.
    Public,
}

/// Names a channel that is read: the place of a local key, and whose cells.
pub type Wanted = (usize, Whose);

/// A cell that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its mailbox.
    pub address: Address,
    /// Which life of that.
    pub log: Log,
    /// Its place there.
    pub sequence: u64,
    /// It is not held: nothing is to be acknowledged.
    pub volatile: bool,
}

/// What is to be said to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// SUBSCRIBE, with the proof for [`Reading::mailbox`].
    Subscribe {
        /// The mailbox.
        address: Address,
        /// The log that is known, or zeros.
        log: Log,
        /// The first sequence that is wanted.
        from: u64,
    },
    /// ACK.
    Ack {
        /// The mailbox.
        address: Address,
        /// Its log.
        log: Log,
        /// All up to this sequence may go.
        upto: u64,
    },
    /// LEAVE.
    Leave(Address),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Asked,
    Live,
    /// Refused until then.
    Refused(Duration),
}

/// What is left at the relay, from a sequence on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It is passed over.
    Paused(u64),
    /// It is asked for; until the first of it comes, what comes was on its way before.
    Asked(u64),
    /// The first of it is gone. It is asked for again, and nothing behind is acknowledged until all
    /// of it came.
    Shown(u64),
}

impl Left {
    fn from(self) -> u64 {
        let (Self::Paused(from) | Self::Asked(from) | Self::Shown(from)) = self;
        from
    }
}

/// One mailbox.
struct Mail {
    wanted: Wanted,
    mailbox: Mailbox,
    stage: Stage,
    log: Log,
    /// All before this sequence came.
    next: u64,
    /// Of those: what is not decided.
    open: BTreeSet<u64>,
    /// All before this were acknowledged.
    acked: u64,
    /// What was passed over.
    left: Option<Left>,
}

impl Mail {
    /// All before this may be acknowledged.
    fn decided(&self) -> u64 {
        let decided = self.open.first().copied().unwrap_or(self.next);
        self.left.map_or(decided, |left| left.from().min(decided))
    }

    /// Whether a cell that is held is read now.
    fn reads(&mut self, sequence: u64) -> bool {
        match self.left {
            Some(Left::Paused(_)) => false,
            Some(Left::Asked(from)) if from == sequence => {
                self.left = None;
                true
            }
            Some(Left::Asked(_)) => false,
            Some(Left::Shown(_)) | None => true,
        }
    }

    fn restart(&mut self, log: Log) {
        (self.log, self.next, self.acked, self.left) = (log, 0, 0, None);
        self.open.clear();
    }
}

/// One channel: the mailboxes of several epochs.
struct Chain {
    channel: Channel,
    reader: PublicKey,
    mailboxes: BTreeMap<u64, Address>,
}

/// How far everything is that is read at one relay.
pub struct Reading {
    chains: BTreeMap<Wanted, Chain>,
    mails: HashMap<Address, Mail>,
    ttl_ms: u64,
    epochs: RangeInclusive<u64>,
    linked: bool,
    /// Chains whose next mailbox may be asked for.
    ready: BTreeSet<Wanted>,
    asked: usize,
    /// When the first refused mailbox is asked for again.
    again: Option<Duration>,
    acks: BTreeSet<Address>,
    orders: VecDeque<Order>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            chains: BTreeMap::new(),
            mails: HashMap::new(),
            ttl_ms: 0,
            epochs: 0..=0,
            linked: false,
            ready: BTreeSet::new(),
            asked: 0,
            again: None,
            acks: BTreeSet::new(),
            orders: VecDeque::new(),
        }
    }
}

impl Reading {
    /// Reads `channel`, whose reader's key is `reader`, from now on.
    pub fn want(&mut self, wanted: Wanted, channel: Channel, reader: PublicKey) {
        let chain = Chain { channel, reader, mailboxes: BTreeMap::new() };
        self.chains.entry(wanted).or_insert(chain);
        if self.linked {
            self.ready.insert(wanted);
        }
    }

    /// Reads it no more.
    pub fn unwant(&mut self, wanted: &Wanted) {
        self.ready.remove(wanted);
        let Some(chain) = self.chains.remove(wanted) else { return };
        chain.mailboxes.into_values().for_each(|address| self.leave(&address));
    }

    /// What is read.
    pub fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.chains.keys()
    }

    /// There is a new link to the relay, which holds cells for `ttl`.
    pub fn linked(&mut self, ttl: Duration, now: Now) {
        self.lost();
        self.linked = true;
        self.ttl_ms = ttl.as_millis() as u64;
        self.ready = self.chains.keys().copied().collect();
        self.refresh(now);
    }

    /// The link is cut. What was read stays known.
    pub fn lost(&mut self) {
        self.linked = false;
        self.asked = 0;
        self.again = None;
        self.ready.clear();
        self.acks.clear();
        self.orders.clear();
        for mail in self.mails.values_mut() {
            mail.stage = Stage::Idle;
            // The relay may not have had it.
            mail.acked = 0;
            if let Some(left) = mail.left.take() {
                mail.next = mail.next.min(left.from());
            }
        }
    }

    /// Looks at the clock: mailboxes of epochs that are over are left, new ones asked for.
    pub fn refresh(&mut self, now: Now) {
        if !self.linked {
            return;
        }
        let epochs = epochs(self.ttl_ms, now.unix_ms);
        if epochs != self.epochs {
            self.epochs = epochs;
            self.leave_old();
            self.ready.extend(self.chains.keys());
        }
        if self.again.is_some_and(|at| at <= now.mono) {
            self.again = None;
            for mail in self.mails.values_mut() {
                match mail.stage {
                    Stage::Refused(at) if at <= now.mono => {
                        mail.stage = Stage::Idle;
                        self.ready.insert(mail.wanted);
                    }
                    Stage::Refused(at) => {
                        self.again = Some(self.again.map_or(at, |again| again.min(at)));
                    }
                    _ => {}
                }
            }
        }
    }

    fn leave_old(&mut self) {
        let mut left = Vec::new();
        for chain in self.chains.values_mut() {
            chain.mailboxes.retain(|epoch, address| {
                let stays = self.epochs.contains(epoch);
                if !stays {
                    left.push(*address);
                }
                stays
            });
        }
        left.iter().for_each(|address| self.leave(address));
    }

    fn leave(&mut self, address: &Address) {
        let Some(mail) = self.mails.remove(address) else { return };
        self.acks.remove(address);
        self.asked -= usize::from(mail.stage == Stage::Asked);
        if matches!(mail.stage, Stage::Asked | Stage::Live) {
            self.orders.push_back(Order::Leave(*address));
        }
    }

    /// The next thing to say.
    pub fn order(&mut self) -> Option<Order> {
        self.orders.pop_front().or_else(|| self.next_ack()).or_else(|| self.next_subscription())
    }

    fn next_ack(&mut self) -> Option<Order> {
        while let Some(address) = self.acks.pop_first() {
            let Some(mail) = self.mails.get_mut(&address) else { continue };
            let decided = mail.decided();
            if decided > mail.acked && matches!(mail.stage, Stage::Asked | Stage::Live) {
                mail.acked = decided;
                return Some(Order::Ack { address, log: mail.log, upto: decided - 1 });
            }
        }
        None
    }

    fn next_subscription(&mut self) -> Option<Order> {
        while self.asked < MAX_ASKED {
            let wanted = self.next_chain()?;
            self.ready.remove(&wanted);
            let Some(address) = self.next_in_chain(&wanted) else { continue };
            let mail = self.mails.get_mut(&address)?;
            mail.stage = Stage::Asked;
            self.asked += 1;
            // What is open is known already, and nothing is lost if it comes again.
            return Some(Order::Subscribe { address, log: mail.log, from: mail.next });
        }
        None
    }

    /// Anybody's come last, when nothing of contacts is missing any more.
    fn next_chain(&self) -> Option<Wanted> {
        let public = |wanted: &&Wanted| wanted.1 == Whose::Public;
        let first = self.ready.iter().find(|wanted| !public(wanted));
        first.or_else(|| self.ready.first().filter(|_| self.asked == 0)).copied()
    }

    /// The oldest mailbox of a chain that is not read, unless one before it is still to be LIVE.
    fn next_in_chain(&mut self, wanted: &Wanted) -> Option<Address> {
        let chain = self.chains.get_mut(wanted)?;
        for epoch in self.epochs.clone() {
            let address = match chain.mailboxes.get(&epoch) {
                Some(address) => *address,
                None => {
                    let mailbox = chain.channel.at(&chain.reader, epoch)?;
                    let address = mailbox.address;
                    chain.mailboxes.insert(epoch, address);
                    self.mails.insert(
                        address,
                        Mail {
                            wanted: *wanted,
                            mailbox,
                            stage: Stage::Idle,
                            log: [0; 8],
                            next: 0,
                            open: BTreeSet::new(),
                            acked: 0,
                            left: None,
                        },
                    );
                    address
                }
            };
            let mail = self.mails.get(&address)?;
            match mail.stage {
                Stage::Idle => return Some(address),
                Stage::Asked => return None,
                Stage::Live if mail.left.is_some() => return None,
                Stage::Live | Stage::Refused(_) => {}
            }
        }
        None
    }

    /// A mailbox that is read, and the place of the key that has the right to.
    pub fn mailbox(&self, address: &Address) -> Option<(&Mailbox, usize)> {
        self.mails.get(address).map(|mail| (&mail.mailbox, mail.wanted.0))
    }

    /// CELL: where it stands, and whether it came after all that was held before; `None` if its
    /// mailbox is not read, or paused.
    pub fn cell(&mut self, cell: &Cell<'_>) -> Option<(Position, bool)> {
        let mail = self.mails.get_mut(&cell.address)?;
        if mail.log != cell.log {
            mail.restart(cell.log);
        }
        let volatile = cell.flags & FLAG_VOLATILE != 0;
        let position =
            Position { address: cell.address, log: cell.log, sequence: cell.id, volatile };
        let reads = volatile || mail.reads(cell.id);
        reads.then_some((position, mail.stage == Stage::Live))
    }

    /// There is no room for the cell at `position`: it, and all that are held behind it, are left
    /// at the relay until [`Reading::resume`]. Volatile cells of the mailbox are read, and so are
    /// all other mailboxes.
    pub fn pause(&mut self, position: &Position) {
        let Some(mail) = self.mail(position) else { return };
        let from = mail.left.map_or(position.sequence, Left::from);
        mail.left = Some(Left::Paused(from));
    }

    /// There may be room for what was left in the mailbox at `address`: it is asked for again.
    /// `false` as long as the relay is not through with what it was asked for before.
    pub fn resume(&mut self, address: &Address) -> bool {
        let Some(mail) = self.mails.get_mut(address) else { return true };
        let Some(Left::Paused(from)) = mail.left else { return true };
        if mail.stage == Stage::Live {
            (mail.left, mail.next, mail.stage) = (Some(Left::Asked(from)), from, Stage::Idle);
            self.ready.insert(mail.wanted);
        }
        mail.stage != Stage::Asked
    }

    /// The cell at `position` was taken in; or it was `decided` at once.
    pub fn took(&mut self, position: &Position, decided: bool) {
        let Some(mail) = self.mail(position) else { return };
        mail.next = mail.next.max(position.sequence.saturating_add(1));
        if decided {
            self.decided(position);
        } else {
            mail.open.insert(position.sequence);
        }
    }

    /// Nothing comes any more of the cell at `position`, which was taken in.
    pub fn decided(&mut self, position: &Position) {
        let Some(mail) = self.mail(position) else { return };
        mail.open.remove(&position.sequence);
        if mail.wanted.1 != Whose::Group && mail.decided() > mail.acked {
            self.acks.insert(position.address);
        }
    }

    fn mail(&mut self, position: &Position) -> Option<&mut Mail> {
        let mail = self.mails.get_mut(&position.address);
        mail.filter(|mail| mail.log == position.log && !position.volatile)
    }

    /// LIVE.
    pub fn live(&mut self, address: &Address, log: Log, next: u64) {
        let Some(mail) = self.mails.get_mut(address) else { return };
        if mail.log != log {
            mail.restart(log);
        }
        match mail.left {
            Some(Left::Paused(_)) => {}
            Some(Left::Asked(from)) => mail.left = Some(Left::Shown(from)),
            Some(Left::Shown(_)) | None => (mail.left, mail.next) = (None, mail.next.max(next)),
        }
        // What was acknowledged on the link before may have been lost with it.
        if mail.wanted.1 != Whose::Group && mail.decided() > mail.acked {
            self.acks.insert(*address);
        }
        if mail.stage == Stage::Asked {
            let again = matches!(mail.left, Some(Left::Shown(_)));
            mail.stage = if again { Stage::Idle } else { Stage::Live };
            self.asked -= 1;
            self.ready.insert(mail.wanted);
        }
    }

    /// ERROR about a SUBSCRIBE; whether it was for one.
    pub fn refused(&mut self, address: &Address, now: Now) -> bool {
        let Some(mail) = self.mails.get_mut(address) else { return false };
        if mail.stage != Stage::Asked {
            return false;
        }
        let again = now.mono + ASK_AGAIN;
        mail.stage = Stage::Refused(again);
        self.asked -= 1;
        self.again.get_or_insert(again);
        self.ready.insert(mail.wanted);
        true
    }

    /// Whether what `sender` has in the mailbox at `address` is a second copy: the mailbox is
    /// anybody's, and all that hold the sender's own cells for the same key are read.
    pub fn is_copy(&self, address: &Address, sender: &PublicKey) -> bool {
        let Some(Mail { wanted: (key, Whose::Public), .. }) = self.mails.get(address) else {
            return false;
        };
        let Some(chain) = self.chains.get(&(*key, Whose::Pair(*sender))) else { return false };
        let is_live = |address| self.mails.get(address).is_some_and(|m| m.stage == Stage::Live);
        self.epochs.clone().all(|epoch| chain.mailboxes.get(&epoch).is_some_and(is_live))
    }

    /// Whether everything is read that may be: each mailbox is LIVE, or refused.
    pub fn is_live(&self) -> bool {
        self.linked && self.asked == 0 && self.ready.is_empty()
    }

    /// When [`Reading::refresh`] has something to do, unless the clock is set.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        let into = now.unix_ms % EPOCH_MS;
        let early = EPOCH_MS - EARLY_MS;
        let left = if into < early { early - into } else { EPOCH_MS - into };
        let turns = now.mono + Duration::from_millis(left);
        self.linked.then(|| self.again.map_or(turns, |again| again.min(turns)))
    }
}

/// The epochs whose mailboxes may hold something at `unix_ms`.
fn epochs(ttl_ms: u64, unix_ms: u64) -> RangeInclusive<u64> {
    let (first, last) = (epoch(unix_ms), epoch(unix_ms.saturating_add(EARLY_MS)));
    first.saturating_sub(ttl_ms.div_ceil(EPOCH_MS))..=last
}
