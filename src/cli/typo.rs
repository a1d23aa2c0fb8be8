//! What an option that does not exist was probably meant to be.

use clap::error::{ContextKind, ContextValue};

/// The long options, of all programs, with which less is sealed, proven, checked, kept back or asked
/// than without. Whoever mistypes something else must not be led to one of them.
const WEAKENING: &[&str] = &[
    "accept-unknown",
    "exec",
    "force",
    "from-password",
    "insecure",
    "introduce",
    "open",
    "plain",
    "public",
    "queue",
    "save",
    "shell-exec",
    "udp",
    "yes",
];

/// The option to suggest for the one that `error` does not know.
pub fn meant(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => Some(option.as_str()).filter(|o| !weakens(o)),
        _ => None,
    }
}

/// Whether `option`, as it is typed, is one that weakens: also every one that switches something off.
fn weakens(option: &str) -> bool {
    let name = option.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default();
    name.starts_with("no-") || WEAKENING.contains(&name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory as _;

    /// Every program, by the name that it is called by.
    fn programs() -> [clap::Command; 5] {
        [
            crate::cli::discover::Options::command(),
            crate::cli::keygen::Options::command(),
            crate::cli::listen::Options::command(),
            crate::cli::relay::Options::command(),
            crate::cli::send::Options::command(),
        ]
    }

    /// `name` with one character left out, doubled, replaced or put in, or two of them swapped.
    fn mistyped(name: &str) -> Vec<String> {
        let mut all = Vec::new();
        for at in 0..name.len() {
            let (head, tail) = name.split_at(at);
            let rest = &tail[1..];
            all.push(format!("{head}{rest}"));
            for other in ['e', 'x', '-'] {
                all.push(format!("{head}{other}{rest}"));
                all.push(format!("{head}{other}{tail}"));
            }
            if let Some(next) = rest.chars().next() {
                all.push(format!("{head}{next}{}{}", &tail[..1], &rest[1..]));
            }
        }
        all.push(format!("{name}s"));
        all
    }

    fn suggested(program: &mut clap::Command, word: &str) -> Option<String> {
        let name = program.get_name().to_owned();
        let error = program.try_get_matches_from_mut([&name, word]).err()?;
        meant(&error).map(str::to_owned)
    }

    #[test]
    fn no_misspelling_is_answered_with_an_option_that_weakens() {
        let mut answered = 0;
        for mut program in programs() {
            program.build();
            let longs: Vec<_> =
                program.get_arguments().filter_map(|a| a.get_long()).map(str::to_owned).collect();
            let typed = WEAKENING.iter().map(|n| (*n).to_owned()).chain(longs).chain(
                ["explane", "explain", "plan", "no-color", "no-sandbox", "acept", "onion"]
                    .map(str::to_owned),
            );
            for name in typed {
                let once = mistyped(&name);
                // Two mistakes: those behind each other.
                let twice = once.iter().step_by(7).flat_map(|word| mistyped(word));
                for word in once.iter().cloned().chain(twice.step_by(20)) {
                    let said = suggested(&mut program, &format!("--{word}"));
                    assert!(said.as_deref().is_none_or(|o| !weakens(o)), "{word}: {said:?}");
                    answered += usize::from(said.is_some());
                }
            }
        }
        assert!(answered > 1000, "hints are gone altogether: {answered}");
    }

    #[test]
    fn other_misspellings_are_answered_still() {
        let [mut discover, mut keygen, mut listen, mut relay, mut send] = programs();
        assert_eq!(suggested(&mut discover, "--wach").as_deref(), Some("--watch"));
        assert_eq!(suggested(&mut keygen, "--verfy").as_deref(), Some("--verify"));
        assert_eq!(suggested(&mut listen, "--histroy").as_deref(), Some("--history"));
        assert_eq!(suggested(&mut relay, "--memroy").as_deref(), Some("--memory"));
        assert_eq!(suggested(&mut send, "--fiel").as_deref(), Some("--file"));
    }

    #[test]
    fn what_switches_off_weakens_whatever_it_is_called() {
        for option in ["--no-ack", "--no-sandbox", "--plain", "--open", "--accept-unknown"] {
            assert!(weakens(option), "{option}");
        }
        for option in ["--verify", "--note", "--opens", "--history <FILE>"] {
            assert!(!weakens(option), "{option}");
        }
    }
}
