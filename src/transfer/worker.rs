//! The thread that writes what one session brings: it hashes, writes, syncs and renames, and says
//! what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::declined::Declined;
use super::delivery::Delivery;
use super::handover::{Said, Shared, Step};
use super::incoming::Resume;
use crate::proto::stream::meta::Meta;

/// Files that are whole and wait to land together; each is open.
const MAX_WHOLE: usize = 200;
/// So much is said to the loop at a time.
const MAX_NEWS: usize = 32;
/// A session that ended leaves its part within this time; the next one of the same sender, which
/// begins before that, waits for it.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Works off what the loop asks.
pub(super) struct Worker {
    delivery: Delivery,
    shared: Arc<Shared>,
    /// Number of the message that is coming.
    number: u64,
    /// It was declined: the rest of it is dropped.
    declined: bool,
    /// It may come again, and lands once.
    once: bool,
    /// Numbers of the files that are whole.
    whole: Vec<u64>,
    news: Vec<(u64, Said)>,
}

impl Worker {
    pub(super) fn new(delivery: Delivery, shared: Arc<Shared>) -> Self {
        let (declined, once, whole, news) = (false, false, Vec::new(), Vec::new());
        Self { delivery, shared, number: 0, declined, once, whole, news }
    }

    pub(super) fn run(mut self) {
        let (mut steps, mut bytes) = (Vec::new(), Vec::new());
        loop {
            while self.shared.fetch(&mut steps, &mut bytes) {
                let mut used = 0;
                for step in steps.drain(..) {
                    self.take(step, &bytes, &mut used);
                }
                bytes.clear();
                self.shared.tell(&mut self.news);
            }
            // Nothing waits: whoever sends may wait for us.
            if !self.whole.is_empty() {
                self.land();
                self.shared.tell(&mut self.news);
            } else if !self.shared.wait() {
                return;
            }
        }
    }

    fn take(&mut self, step: Step, bytes: &[u8], used: &mut usize) {
        match step {
            Step::Begin { meta, now_ms, number, once } => {
                (self.number, self.declined, self.once) = (number, false, once);
                let begun = self.begin(&meta, now_ms);
                self.checked(begun);
            }
            Step::Start(offset) if !self.declined => {
                let there = self.delivery.start_at(offset);
                let said = there.map(|there| self.say(Said::There(there)));
                self.checked(said);
            }
            Step::Data(len) => {
                let piece = &bytes[*used..*used + len];
                *used += len;
                if !self.declined {
                    let taken = self.delivery.data(piece);
                    self.checked(taken);
                }
            }
            Step::End if !self.declined => {
                let ended = self.end();
                self.checked(ended);
            }
            Step::Abort => {
                self.delivery.abort();
                self.declined = true;
                self.shared.know_aborted(self.number);
            }
            Step::Start(_) | Step::End => {}
        }
    }

    fn begin(&mut self, meta: &Meta, now_ms: u64) -> Result<(), Declined> {
        let offer = self.begin_patiently(meta, now_ms)?;
        if let Some(Resume { offset, hash }) = offer {
            self.say(Said::Offer { offset, hash });
            // Its sender waits for it.
            self.shared.tell(&mut self.news);
        }
        Ok(())
    }

    fn begin_patiently(&mut self, meta: &Meta, now_ms: u64) -> Result<Option<Resume>, Declined> {
        let since = Instant::now();
        loop {
            let begun = match self.once {
                true => self.delivery.begin_once(meta, now_ms).map(|()| None),
                false => self.delivery.begin(meta, now_ms),
            };
            match begun {
                Err(Declined::Busy) if since.elapsed() < BUSY_PATIENCE => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn end(&mut self) -> Result<(), Declined> {
        if self.delivery.is_file() {
            self.delivery.set_whole()?;
            self.whole.push(self.number);
            if self.whole.len() >= MAX_WHOLE {
                self.land();
            }
            return Ok(());
        }
        self.land();
        let nothing = if self.once { Said::Again } else { Said::Put };
        let said = self.delivery.end()?.map_or(nothing, Said::Landed);
        self.say(said);
        Ok(())
    }

    /// The files that are whole get their names.
    fn land(&mut self) {
        if self.whole.is_empty() {
            return;
        }
        let landed = self.delivery.land();
        for (number, landed) in self.whole.drain(..).zip(landed) {
            let said = landed.map(|name| name.map_or(Said::Again, Said::Landed));
            self.news.push((number, said.unwrap_or_else(Said::Declined)));
        }
    }

    /// Declines what is coming if it failed. Its answer comes after those of the files before it.
    fn checked(&mut self, result: Result<(), Declined>) {
        let Err(why) = result else { return };
        self.delivery.abort();
        self.declined = true;
        self.land();
        self.say(Said::Declined(why));
        // The sooner its sender knows, the less is sent in vain.
        self.shared.tell(&mut self.news);
    }

    fn say(&mut self, said: Said) {
        self.news.push((self.number, said));
        if self.news.len() >= MAX_NEWS {
            self.shared.tell(&mut self.news);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.leave();
    }
}
