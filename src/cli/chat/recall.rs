//! What was typed before, for the arrow keys. It is in memory only, and gone with the program.

use std::collections::VecDeque;

/// So many lines are remembered.
const MAX_LINES: usize = 500;
/// A line longer than this, in bytes, is not.
const MAX_LINE: usize = 16 * 1024;

/// The lines, and the one that is shown.
#[derive(Default)]
pub struct Recall {
    lines: VecDeque<String>,
    /// Steps back from the line that is being typed.
    back: usize,
    /// What was typed before the first step back.
    draft: String,
}

impl Recall {
    /// A line was entered.
    pub fn entered(&mut self, line: &str) {
        self.back = 0;
        self.draft.clear();
        if line.len() > MAX_LINE || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// The line before the one that is shown, which is `current` now.
    pub fn older(&mut self, current: &str) -> Option<String> {
        if self.back == self.lines.len() {
            return None;
        }
        if self.back == 0 {
            current.clone_into(&mut self.draft);
        }
        self.back += 1;
        self.shown()
    }

    /// The line after the one that is shown; behind the last, what was being typed.
    pub fn newer(&mut self) -> Option<String> {
        self.back = self.back.checked_sub(1)?;
        self.shown()
    }

    fn shown(&self) -> Option<String> {
        match self.back {
            0 => Some(self.draft.clone()),
            back => self.lines.get(self.lines.len() - back).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_back_and_to_the_draft_again() {
        let mut recall = Recall::default();
        assert_eq!(recall.older("x"), None);
        assert_eq!(recall.newer(), None);
        for line in ["one", "two", "two"] {
            recall.entered(line);
        }
        assert_eq!(recall.older("draft").as_deref(), Some("two"));
        assert_eq!(recall.older("two").as_deref(), Some("one"));
        assert_eq!(recall.older("one"), None);
        assert_eq!(recall.newer().as_deref(), Some("two"));
        assert_eq!(recall.newer().as_deref(), Some("draft"));
        assert_eq!(recall.newer(), None);
        // What was changed after a step back is a new line once it is entered.
        assert_eq!(recall.older("").as_deref(), Some("two"));
        recall.entered("three");
        assert_eq!(recall.older("").as_deref(), Some("three"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut recall = Recall::default();
        for n in 0..2 * MAX_LINES {
            recall.entered(&n.to_string());
        }
        recall.entered(&"x".repeat(MAX_LINE + 1));
        assert_eq!(recall.lines.len(), MAX_LINES);
        assert_eq!(recall.older("").as_deref(), Some("999"));
    }
}
