//! What the tab key offers: commands and contacts' names.

use super::command::COMMANDS;

/// What there is to offer.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// This is added where the cursor is.
    Insert(String),
    /// One of these; nothing that all share is missing.
    Choice(Vec<String>),
}

/// What may follow `before`, the text up to the cursor, where `names` are known.
pub fn complete(before: &str, names: &[String]) -> Offer {
    let words: Vec<&str> = before.split(' ').collect();
    match words.as_slice() {
        [command] if command.starts_with('/') && !command.starts_with("//") => {
            choose(command, COMMANDS.iter().map(|(command, ..)| *command))
        }
        ["/msg" | "/connect", name] => choose(name, names.iter().map(String::as_str)),
        _ => Offer::Nothing,
    }
}

/// The only candidate and a blank, or as much as all have in common.
fn choose<'a>(begun: &str, candidates: impl Iterator<Item = &'a str>) -> Offer {
    let fitting: Vec<&str> = candidates.filter(|candidate| candidate.starts_with(begun)).collect();
    let Some((first, rest)) = fitting.split_first() else { return Offer::Nothing };
    if rest.is_empty() {
        return Offer::Insert(format!("{} ", &first[begun.len()..]));
    }
    let common = rest.iter().fold(*first, |common, other| shared_beginning(common, other));
    match &common[begun.len()..] {
        "" => Offer::Choice(fitting.into_iter().map(str::to_owned).collect()),
        more => Offer::Insert(more.to_owned()),
    }
}

fn shared_beginning<'a>(a: &'a str, b: &str) -> &'a str {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    &a[..same.map(|(c, _)| c.len_utf8()).sum()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_names_are_completed_where_they_stand() {
        let names: Vec<String> = ["bob", "bobby", "carol", "zoë", "zoé"].map(String::from).into();
        let complete = |before: &str| complete(before, &names);
        let insert = |text: &str| Offer::Insert(text.into());
        assert_eq!(complete("/m"), insert("sg "));
        assert_eq!(complete("/li"), insert("st "));
        assert!(matches!(complete("/"), Offer::Choice(all) if all.len() == COMMANDS.len()));
        assert_eq!(complete("/msg c"), insert("arol "));
        assert_eq!(complete("/connect b"), insert("ob"));
        assert_eq!(complete("/msg z"), insert("o"));
        assert_eq!(complete("/msg bob"), Offer::Choice(vec!["bob".into(), "bobby".into()]));
        for nothing in ["", "hi", "//m", "/nope", "/msg x", "/msg bob b", "say /m", "/list b"] {
            assert_eq!(complete(nothing), Offer::Nothing, "{nothing:?}");
        }
    }
}
