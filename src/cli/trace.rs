//! `-vv`: what crossed the wire beside what it meant, so that people can see the sealing work.

use super::sanitize::sanitize_line;
use crate::proto::stream::link::Crossing;

/// Two lines, the wire in hexadecimal and the meaning in words; what has no datagram of its own
/// has the second only.
pub fn lines(crossing: &Crossing) -> String {
    let arrow = if crossing.outgoing { "->" } else { "<-" };
    let mut text = String::new();
    if crossing.wire_len > 0 {
        let more = if crossing.wire_len > crossing.wire_head.len() { "…" } else { "" };
        let wire = super::json::hex(&crossing.wire_head);
        text.push_str(&format!("{arrow} wire  {} bytes  {wire}{more}\n", crossing.wire_len));
    }
    text.push_str(&format!("{arrow} means {}", crossing.meaning));
    if !crossing.content.is_empty() {
        let content = String::from_utf8_lossy(&crossing.content);
        text.push_str(&format!("  \"{}\"", sanitize_line(&content)));
    }
    text
}
