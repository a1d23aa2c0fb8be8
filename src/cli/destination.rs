//! Whom a user means, and where: `NAME`, `NAME@HOST:PORT`, `HOST:PORT`, or `HOST PORT` as with nc.
//! ac(7), DESTINATIONS.

use super::failure::{Code, Failure};
use crate::keys::{Contact, Keyring, Passphrases, check_address};
use crate::net::resolve::HostPort;
use crate::net::via::Place;

/// A destination with everything that is needed to reach it.
pub struct Destination {
    /// How messages to the user call it: petname, safe to show.
    pub name: String,
    /// The key that must be proved.
    pub contact: Contact,
    /// Where to try, in turn; empty when only the name is known.
    pub targets: Vec<Place>,
    /// Whether the keyring has it; a key file that is named by its path is not in it.
    pub known: bool,
    /// Whether only a NAME was given: where it is is for us to find out.
    pub is_name: bool,
    /// Whether several people hold the key.
    pub is_group: bool,
}

/// What the operands say, before the keyring is asked.
#[derive(Debug, PartialEq, Eq)]
enum Words {
    Name(String),
    Address(HostPort),
    Both(String, HostPort),
}

/// The operands of each destination that is named: `HOST PORT` is two of one, and everything else
/// one of one.
pub fn each(operands: &[String]) -> Vec<&[String]> {
    match operands {
        [_, port] if is_port(port) => vec![operands],
        _ => operands.chunks(1).collect(),
    }
}

fn is_port(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())
}

/// How a report calls a destination that cannot be resolved: its NAME, or its address.
pub fn shown(operands: &[String]) -> String {
    let text = match parse(operands) {
        Ok(Words::Name(name) | Words::Both(name, _)) => name,
        Ok(Words::Address(address)) => address.to_string(),
        Err(_) => operands.join(" "),
    };
    super::sanitize::sanitize_line(&text)
}

/// Reads the one or two operands of one destination and asks the keyring.
///
/// # Errors
/// [`Code::Usage`] for what makes no sense, [`Code::Key`] for a key that is missing or bad.
pub fn resolve(
    operands: &[String],
    keyring: &Keyring,
    passphrases: &mut dyn Passphrases,
) -> Result<Destination, Failure> {
    let (name, target) = match parse(operands)? {
        Words::Name(name) => (Some(name), None),
        Words::Address(target) => (None, Some(target)),
        Words::Both(name, target) => (Some(name), Some(target)),
    };
    let is_name = target.is_none();
    let known = name.as_ref().is_none_or(|name| !name.contains('/'));
    let (name, contact, is_group) = match (name, &target) {
        (Some(name), _) => keyring.peer(&name, passphrases)?,
        (None, Some(target)) => {
            let (name, contact) = whose_address(target, keyring)?;
            (name, contact, false)
        }
        (None, None) => unreachable!("a destination has a name or an address"),
    };
    let targets = match target {
        Some(target) => vec![target.into()],
        None => {
            let hints = contact.hints.address.iter();
            hints.filter_map(|a| host_port(a).ok()).map(Place::from).collect()
        }
    };
    Ok(Destination { name, contact, targets, known, is_name, is_group })
}

/// Reads the operands of `--plain`: an address, and nobody's name.
///
/// # Errors
/// [`Code::Usage`].
pub fn plain_target(operands: &[String]) -> Result<HostPort, Failure> {
    match parse(operands)? {
        Words::Address(target) => Ok(target),
        Words::Name(name) | Words::Both(name, _) => {
            let why = "--plain asks nobody for a key, so that a name would promise too much";
            Err(Failure::new(Code::Usage, why)
                .about(super::sanitize::sanitize_line(&name))
                .hint("with --plain a destination is HOST:PORT or HOST PORT"))
        }
    }
}

fn parse(operands: &[String]) -> Result<Words, Failure> {
    match operands {
        [one] => parse_one(one),
        [host, port] if is_port(port) => {
            let bracketed = host.contains(':') && !host.starts_with('[');
            let host = if bracketed { format!("[{host}]") } else { host.clone() };
            Ok(Words::Address(host_port(&format!("{host}:{port}"))?))
        }
        _ => Err(Failure::new(Code::Usage, "one destination at a time")
            .hint("a destination is NAME, NAME@HOST:PORT, HOST:PORT or HOST PORT")),
    }
}

fn parse_one(word: &str) -> Result<Words, Failure> {
    // No address has a slash: a path whose folders contain an @ is a path.
    if let Some((name, address)) = word.rsplit_once('@').filter(|(_, a)| !a.contains('/')) {
        if name.is_empty() {
            return Err(wrong(word, "the name in front of @ is missing"));
        }
        return Ok(Words::Both(name.to_owned(), host_port(address)?));
    }
    if !word.contains('/') && word.contains(':') {
        return Ok(Words::Address(host_port(word)?));
    }
    if word.is_empty() {
        return Err(wrong(word, "the destination is empty"));
    }
    Ok(Words::Name(word.to_owned()))
}

/// `HOST:PORT` or `[IPV6]:PORT`.
///
/// # Errors
/// [`Code::Usage`].
pub fn host_port(text: &str) -> Result<HostPort, Failure> {
    check_address(text).map_err(|why| wrong(text, &why.to_string()))?;
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(text, "the port is missing"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| wrong(text, "a port is a number from 1 to 65535"))?;
    Ok(HostPort { host, port })
}

fn wrong(word: &str, why: &str) -> Failure {
    Failure::new(Code::Usage, format!("{}: {why}", super::sanitize::sanitize_line(word)))
        .hint("a destination is NAME, NAME@HOST:PORT, HOST:PORT or HOST PORT")
}

/// The contact whose `address` says so, else the only contact there is.
fn whose_address(target: &HostPort, keyring: &Keyring) -> Result<(String, Contact), Failure> {
    let (mut contacts, broken) = keyring.contacts()?;
    let says_so = |c: &Contact| {
        c.hints.address.iter().any(|a| host_port(a).is_ok_and(|known| known == *target))
    };
    let matching: Vec<_> =
        contacts.iter().enumerate().filter(|(_, (_, c))| says_so(c)).map(|(i, _)| i).collect();
    match (matching.as_slice(), contacts.len()) {
        ([only], _) => Ok(contacts.swap_remove(*only)),
        ([], 1) => Ok(contacts.remove(0)),
        ([], 0) => Err(match broken.into_iter().next() {
            Some(error) => error.into(),
            None => Failure::new(Code::Key, format!("{target}: there are no contacts"))
                .hint("file the public key that you were given: ac-keygen --import FILE --as NAME"),
        }),
        (several, _) => {
            let named = |i: &usize| contacts[*i].0.clone();
            let all = || contacts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            let names = match several {
                [] => all(),
                _ => several.iter().map(named).collect(),
            };
            Err(Failure::new(Code::Usage, format!("{target}: whose address is it?"))
                .hint(format!("say NAME@{target}, with one of: {}", list(&names))))
        }
    }
}

/// At most ten names: a keyring may hold hundreds.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(10) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(operands: &[&str]) -> Result<Words, Failure> {
        parse(&operands.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.into(), port }
    }

    #[test]
    fn every_form_of_a_destination_is_read() {
        assert_eq!(words(&["bob"]).unwrap(), Words::Name("bob".into()));
        assert_eq!(
            words(&["./b:o@b.pub@h:1"]).unwrap(),
            Words::Both("./b:o@b.pub".into(), at("h", 1))
        );
        assert_eq!(words(&["./bob.pub"]).unwrap(), Words::Name("./bob.pub".into()));
        assert_eq!(words(&["10.0.0.5:1234"]).unwrap(), Words::Address(at("10.0.0.5", 1234)));
        assert_eq!(words(&["[::1]:1234"]).unwrap(), Words::Address(at("::1", 1234)));
        assert_eq!(words(&["::1", "1234"]).unwrap(), Words::Address(at("::1", 1234)));
        assert_eq!(words(&["host", "1234"]).unwrap(), Words::Address(at("host", 1234)));
        assert_eq!(
            words(&["bob@[fe80::1%eth0]:9"]).unwrap(),
            Words::Both("bob".into(), at("fe80::1%eth0", 9))
        );
    }

    #[test]
    fn two_operands_are_one_destination_only_if_the_second_is_a_port() {
        for (operands, counts) in [
            (&["bob"][..], &[1][..]),
            (&["h", "1"], &[2]),
            (&["bob", "carol"], &[1, 1]),
            (&["h", "1a"], &[1, 1]),
            (&["h", ""], &[1, 1]),
            (&["h", "1", "2"], &[1, 1, 1]),
            (&["bob@h:1", "team"], &[1, 1]),
        ] {
            let operands: Vec<_> = operands.iter().map(|o| (*o).to_owned()).collect();
            let found: Vec<_> = each(&operands).iter().map(|words| words.len()).collect();
            assert_eq!(found, counts, "{operands:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for operands in [
            &[""][..],
            &["@h:1"],
            &["bob@"],
            &["bob@h"],
            &["h:0"],
            &["h:65536"],
            &["h:x"],
            &[":1"],
            &["::1:1234"],
            &["bob", "carol"],
            &["h", "1", "2"],
            &["h", "99999"],
            &["h", ""],
        ] {
            assert_eq!(words(operands).unwrap_err().code, Code::Usage, "{operands:?}");
        }
    }
}
