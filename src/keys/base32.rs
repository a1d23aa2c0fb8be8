//! Base32 (RFC 4648, section 6) in lower case without padding, for the one-line form: one case, no
//! punctuation that a chat program would take for markup, and upper case fits QR codes.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// 8 characters for every 5 bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut window, mut bits) = (0u16, 0);
    for byte in bytes {
        window = window << 8 | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[usize::from(window >> bits & 31)]));
        }
        window &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[usize::from(window << (5 - bits) & 31)]));
    }
    out
}

/// The bytes of `text`, in either case; `None` for another character, for a length that no bytes
/// give, and for unused bits that are not zero.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut window, mut bits) = (0u16, 0);
    for c in text {
        let value = match c.to_ascii_lowercase() {
            c @ b'a'..=b'z' => c - b'a',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        window = window << 5 | u16::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
            window &= (1 << bits) - 1;
        }
    }
    (bits < 5 && window == 0).then_some(out)
}
