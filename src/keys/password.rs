//! Which shared passwords are refused. PROTOCOL.md, "Keys".
//!
//! Whoever captures one packet to a group can try passwords against it for as long as they like,
//! so a weak one is worse than none. No program can tell that a password is good; this one
//! refuses what guessing programs try first. It counts the characters that cost a guesser
//! something: blanks and hyphens count nothing, nor does what stood before already; a common word or
//! a run (`aaaa`, `1234`, `qwer`) counts one.

use super::passphrase::Passphrase;

/// Least number of characters that count.
pub const MIN_STRENGTH: usize = 12;

/// What stands at the top of every list of leaked passwords, its longest entries first.
const COMMON: &[&str] = &[
    "correcthorsebatterystaple",
    "administrator",
    "iloveyou",
    "password",
    "passwort",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "superman",
    "starwars",
    "whatever",
    "trustno",
    "computer",
    "internet",
    "anonchat",
    "michelle",
    "jennifer",
    "passwd",
    "letmein",
    "welcome",
    "charlie",
    "michael",
    "jessica",
    "freedom",
    "shadow",
    "master",
    "monkey",
    "dragon",
    "secret",
    "summer",
    "winter",
    "spring",
    "autumn",
    "batman",
    "hunter",
    "jordan",
    "ashley",
    "daniel",
    "george",
    "login",
    "admin",
    "hello",
    "lovely",
    "flower",
    "cookie",
    "pepper",
    "ginger",
    "orange",
    "guest",
    "group",
    "super",
    "soccer",
    "hockey",
    "ninja",
    "azerty",
    "love",
    "pass",
    "user",
    "test",
    "root",
    "chat",
    "team",
];

/// Rows of keyboards and other sequences that fingers find by themselves.
const RUNS: &[&str] = &[
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qazwsxedc",
    "!@#$%^&*()",
];

/// Whether `password` is refused for the group `name`, and why, in one lower-case line.
///
/// # Errors
/// The reason.
pub fn check(password: &Passphrase, name: &str) -> Result<(), String> {
    let text = String::from_utf8_lossy(password.as_bytes());
    let found = strength(&text, name);
    if found >= MIN_STRENGTH {
        return Ok(());
    }
    Err(format!(
        "the password is too easy to guess: {found} of its characters count, {MIN_STRENGTH} must"
    ))
}

/// How many characters of `text` cost a guesser something.
fn strength(text: &str, name: &str) -> usize {
    let separates = |c: &char| c.is_whitespace() || matches!(c, '-' | '_' | '.' | ',');
    let text = text.to_lowercase();
    let text: Vec<char> = text.chars().filter(|c| !separates(c)).map(unleet).collect();
    let name: Vec<char> = name.to_lowercase().chars().map(unleet).collect();
    let mut words: Vec<Vec<char>> = vec![name];
    words.extend(COMMON.iter().map(|w| w.chars().map(unleet).collect()));
    let (mut count, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let skip = [known_word(rest, &words), run(rest), repetition(&text, at)];
        let skip = skip.into_iter().max().unwrap_or(0).max(1);
        // What has been seen already adds nothing at all.
        count += usize::from(repetition(&text, at) < skip || skip == 1);
        at += skip;
    }
    let mut different = text;
    different.sort_unstable();
    different.dedup();
    // Few different characters are few, in whatever order.
    count.min(2 * different.len())
}

/// Folds the usual substitutions, so that `p4$$w0rd` is a word.
fn unleet(c: char) -> char {
    match c {
        '0' => 'o',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        '1' | '!' | '|' => 'i',
        _ => c,
    }
}

/// Length of a common word, or of the group's name, at the start.
fn known_word(rest: &[char], words: &[Vec<char>]) -> usize {
    words.iter().filter(|w| w.len() > 2 && rest.starts_with(w)).map(Vec::len).max().unwrap_or(0)
}

/// Length of a run at the start: one character again and again, or along a sequence either way.
fn run(rest: &[char]) -> usize {
    let same = rest.iter().take_while(|c| **c == rest[0]).count();
    let along = |sequence: &str| {
        let forward: Vec<char> = sequence.chars().map(unleet).collect();
        let backward: Vec<char> = forward.iter().rev().copied().collect();
        longest_common_run(rest, &forward).max(longest_common_run(rest, &backward))
    };
    let along = RUNS.iter().map(|s| along(s)).max().unwrap_or(0);
    [same, along].into_iter().filter(|n| *n > 2).max().unwrap_or(0)
}

fn longest_common_run(rest: &[char], sequence: &[char]) -> usize {
    let matching = |start: usize| rest.iter().zip(&sequence[start..]).take_while(|(a, b)| a == b);
    (0..sequence.len()).map(|start| matching(start).count()).max().unwrap_or(0)
}

/// Length of what stands at `at` and stood before, from three characters on.
fn repetition(text: &[char], at: usize) -> usize {
    let same = |start: usize| text[start..].iter().zip(&text[at..]).take_while(|(a, b)| a == b);
    let longest = (0..at).map(|start| same(start).count().min(at - start)).max().unwrap_or(0);
    if longest > 2 { longest } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guessers_try_first_is_weak() {
        for weak in [
            "",
            "short",
            "passwordpassword",
            "Password2024!!",
            "P4$$w0rd1234",
            "aaaaaaaaaaaaaaaaaaa",
            "abababababababababab",
            "qwertyuiopasdfghjkl",
            "12345678901234567890",
            "letmeinletmeinletmein",
            "correct horse battery staple",
            "summer-team-summer-team",
            "monkeydragonshadow",
            "0123456789abcdef",
        ] {
            assert!(strength(weak, "team") < MIN_STRENGTH, "{weak}: {}", strength(weak, "team"));
        }
    }

    #[test]
    fn words_at_random_and_random_characters_are_accepted() {
        for good in ["cavity-walnut-plunge-orbit", "v7Kq2mPz9xRt", "žluťoučký kůň úpí ódy"]
        {
            assert!(strength(good, "team") >= MIN_STRENGTH, "{good}: {}", strength(good, "team"));
        }
    }

    #[test]
    fn the_groups_own_name_counts_as_one() {
        let with = strength("walnutgrovex-plu", "walnutgrove");
        assert!(with < MIN_STRENGTH && strength("walnutgrovex-plu", "other") >= MIN_STRENGTH);
    }
}
