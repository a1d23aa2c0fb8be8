//! `-vv`: what crossed the wire beside what it meant, so that people can see the sealing work.

use super::sanitize::sanitize_line;
use crate::proto::stream::link::Crossing;

/// Two lines: the wire in hexadecimal, the meaning in words.
pub fn lines(crossing: &Crossing) -> String {
    let arrow = if crossing.outgoing { "->" } else { "<-" };
    let more = if crossing.wire_len > crossing.wire_head.len() { "…" } else { "" };
    let wire = super::json::hex(&crossing.wire_head);
    let mut text = format!("{arrow} wire  {} bytes  {wire}{more}", crossing.wire_len);
    text.push_str(&format!("\n{arrow} means {}", crossing.meaning));
    if !crossing.content.is_empty() {
        let content = String::from_utf8_lossy(&crossing.content);
        text.push_str(&format!("  \"{}\"", sanitize_line(&content)));
    }
    text
}
