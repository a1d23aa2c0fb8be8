//! What the tab key offers: commands, contacts' names, and files.

use super::command::{COMMANDS, path};
use crate::cli::sanitize::is_dangerous;

/// So many entries of a folder are looked at.
const MAX_ENTRIES: usize = 4096;
/// So many are offered to choose from.
const MAX_CHOICE: usize = 60;

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
    if let ["/bsend", _, ..] | ["/send", _, _, ..] = words.as_slice() {
        let taken = if words[0] == "/send" { 2 } else { 1 };
        return file(&words[taken..].join(" "));
    }
    match words.as_slice() {
        [command] if command.starts_with('/') && !command.starts_with("//") => {
            choose(command, COMMANDS.iter().map(|(command, ..)| format!("{command} ")))
        }
        ["/msg" | "/connect" | "/send", name] => {
            choose(name, names.iter().map(|name| format!("{name} ")))
        }
        _ => Offer::Nothing,
    }
}

/// Files and folders whose path begins like this.
fn file(begun: &str) -> Offer {
    let (folder, name) =
        begun.rsplit_once('/').map_or(("", begun), |(f, n)| (&begun[..=f.len()], n));
    let shown = if folder.is_empty() { path(".") } else { path(&format!("{folder}.")) };
    let Ok(entries) = std::fs::read_dir(shown) else { return Offer::Nothing };
    let mut fitting: Vec<String> = entries
        .take(MAX_ENTRIES)
        .flatten()
        .filter_map(|entry| {
            let own = entry.file_name().into_string().ok()?;
            let hidden = own.starts_with('.') && !name.starts_with('.');
            let fits = own.starts_with(name) && !hidden && !own.contains(is_dangerous);
            let folder = entry.path().is_dir();
            fits.then(|| if folder { format!("{own}/") } else { own })
        })
        .collect();
    fitting.sort_unstable();
    choose(name, fitting.into_iter())
}

/// The rest of the only candidate, or as much as all have in common.
fn choose(begun: &str, candidates: impl Iterator<Item = String>) -> Offer {
    let mut fitting: Vec<String> = candidates.filter(|c| c.starts_with(begun)).collect();
    let Some((first, rest)) = fitting.split_first() else { return Offer::Nothing };
    let common = rest.iter().fold(first.as_str(), |common, other| shared_beginning(common, other));
    match &common[begun.len()..] {
        "" if rest.is_empty() => Offer::Nothing,
        "" => {
            let more = fitting.len().saturating_sub(MAX_CHOICE);
            fitting.truncate(MAX_CHOICE);
            fitting.extend((more > 0).then(|| format!("and {more} more")));
            Offer::Choice(fitting.iter().map(|c| c.trim_end().to_owned()).collect())
        }
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
        assert_eq!(complete("/send c"), insert("arol "));
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

    #[test]
    fn files_are_completed_where_they_are_asked_for() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = folder.path().display().to_string();
        for name in ["a photo.jpg", "alps.jpg", "b.txt", ".hidden", "evil\u{1b}[2J"] {
            std::fs::write(folder.path().join(name), "")?;
        }
        std::fs::create_dir(folder.path().join("deep"))?;
        let complete = |begun: &str| complete(begun, &[]);
        let insert = |text: &str| Offer::Insert(text.into());
        assert_eq!(complete(&format!("/send bob {at}/a ")), insert("photo.jpg"));
        assert_eq!(complete(&format!("/bsend {at}/d")), insert("eep/"));
        assert_eq!(complete(&format!("/bsend {at}/.h")), insert("idden"));
        assert_eq!(
            complete(&format!("/bsend {at}/a")),
            Offer::Choice(vec!["a photo.jpg".into(), "alps.jpg".into()])
        );
        assert_eq!(complete(&format!("/bsend {at}/evil")), Offer::Nothing);
        assert_eq!(complete("/bsend /no/such/folder/x"), Offer::Nothing);
        Ok(())
    }
}
