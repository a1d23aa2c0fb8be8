//! Bytes that a socket, or a pipe, has not taken yet.

/// A queue of bytes in one piece of memory, which is used again and cleared but once.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// What is on its way already ends here.
    start: usize,
    /// What is to be written ends here.
    end: usize,
}

impl Outgoing {
    /// `len` bytes more at the end, to be overwritten: nobody knows what they are.
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < len && self.start >= self.bytes.len() / 2 {
            // A slow socket may never take everything. What is moved is no more than what was
            // written, so each byte is moved once on average at most.
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let begin = self.end;
        self.end += len;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        &mut self.bytes[begin..self.end]
    }

    /// What is to be written next.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Nothing of it is to be written any more.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// The first `len` bytes of [`Outgoing::pending`] are on their way.
    pub fn consumed(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.end, "more than was pending");
        if self.start == self.end {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_never_takes_everything_costs_no_more_memory() {
        let mut out = Outgoing::default();
        for round in 0..1000 {
            out.room(10_000).fill(round as u8);
            out.consumed(out.pending().len() - 1);
            assert_eq!(out.pending(), [round as u8]);
        }
        assert!(out.bytes.capacity() < 100_000, "{} bytes", out.bytes.capacity());
    }
}
