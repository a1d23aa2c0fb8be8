//! What somebody typed into a chat: a line to say, or a command.

use std::path::PathBuf;

/// The commands, each with what it takes and what it does. `/help` prints them in this order.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("/msg", "NAME TEXT", "say TEXT to NAME alone; a contact that is not here is called"),
    ("/send", "NAME FILE", "send a file or folder to NAME, in a session of its own"),
    ("/bsend", "FILE", "send it to all who are here"),
    ("/connect", "DESTINATION", "call NAME, NAME@HOST:PORT or HOST:PORT"),
    ("/list", "", "who is here"),
    ("/help", "", "these lines"),
    ("/exit", "", "end; so do /quit and Ctrl-D"),
];

/// One line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Nothing but blanks.
    Nothing,
    /// To all who are connected.
    Line(String),
    /// To one.
    Msg {
        /// Whose petname.
        to: String,
        /// What is said.
        text: String,
    },
    /// A file or folder to one.
    Send {
        /// Whose petname.
        to: String,
        /// Where it is.
        path: PathBuf,
    },
    /// A file or folder to all who are here.
    SendAll(PathBuf),
    /// Call somebody: the words of a destination, one or two.
    Connect(Vec<String>),
    /// Who is here?
    List,
    /// Which commands are there?
    Help,
    /// The end.
    Exit,
    /// No command; what the user should read about it.
    Wrong(String),
}

impl Typed {
    /// Reads what was typed, without its line end. `//` at the beginning says `/`; a command that
    /// there is not is never said to anybody.
    pub fn parse(typed: &str) -> Self {
        let typed = typed.trim_end_matches(['\r', '\n']);
        if typed.trim().is_empty() {
            return Self::Nothing;
        }
        if let Some(rest) = typed.strip_prefix("//") {
            return Self::Line(format!("/{rest}"));
        }
        if !typed.starts_with('/') {
            return Self::Line(typed.to_owned());
        }
        let (command, rest) = split_word(typed);
        match command {
            "/msg" => Self::msg(rest),
            "/send" => Self::send(rest),
            "/bsend" if rest.trim().is_empty() => Self::Wrong("use /bsend FILE".into()),
            "/bsend" => Self::SendAll(path(rest)),
            "/connect" => Self::connect(rest),
            "/list" => alone(command, rest, Self::List),
            "/help" => alone(command, rest, Self::Help),
            "/exit" | "/quit" => alone(command, rest, Self::Exit),
            _ => Self::Wrong(format!(
                "no such command: {command} (/help lists them; // says a line that begins with /)"
            )),
        }
    }

    fn msg(rest: &str) -> Self {
        match split_word(rest) {
            (to, text) if !to.is_empty() && !text.trim().is_empty() => {
                Self::Msg { to: to.to_owned(), text: text.to_owned() }
            }
            _ => Self::Wrong("use /msg NAME TEXT".into()),
        }
    }

    fn send(rest: &str) -> Self {
        match split_word(rest) {
            (to, file) if !to.is_empty() && !file.trim().is_empty() => {
                Self::Send { to: to.to_owned(), path: path(file) }
            }
            _ => Self::Wrong("use /send NAME FILE".into()),
        }
    }

    fn connect(rest: &str) -> Self {
        let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        match words.len() {
            1 | 2 => Self::Connect(words),
            _ => Self::Wrong(
                "use /connect NAME, /connect NAME@HOST:PORT or /connect HOST:PORT".into(),
            ),
        }
    }
}

/// All that is left, blanks within it included; `~/` is home, as in a shell.
pub fn path(text: &str) -> PathBuf {
    let text = text.trim();
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(text),
    }
}

/// A command that takes nothing.
fn alone(command: &str, rest: &str, typed: Typed) -> Typed {
    if rest.trim().is_empty() { typed } else { Typed::Wrong(format!("{command} takes nothing")) }
}

/// The first word, and what stands behind the blanks after it.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    // A line end is a part of what is said, once the blanks before it are over.
    (word, rest.trim_start_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Typed {
        Typed::Line(text.into())
    }

    fn msg(to: &str, text: &str) -> Typed {
        Typed::Msg { to: to.into(), text: text.into() }
    }

    #[test]
    fn a_line_is_said_as_it_is() {
        for text in
            ["hi", " hi  there ", "a /b", " /exit", "ünï", "two\nlines", "  indented\n\tcode"]
        {
            assert_eq!(Typed::parse(text), line(text));
        }
        assert_eq!(Typed::parse("hi\r\n"), line("hi"));
        for nothing in ["", " ", "\t\n", "\n\n"] {
            assert_eq!(Typed::parse(nothing), Typed::Nothing);
        }
    }

    #[test]
    fn two_slashes_say_one() {
        assert_eq!(Typed::parse("//exit"), line("/exit"));
        assert_eq!(Typed::parse("//"), line("/"));
        assert_eq!(Typed::parse("///"), line("//"));
    }

    #[test]
    fn a_private_text_is_kept_as_it_is_behind_its_name() {
        assert_eq!(Typed::parse("/msg bob hi"), msg("bob", "hi"));
        assert_eq!(Typed::parse("/msg  bob   a  b "), msg("bob", "a  b "));
        assert_eq!(Typed::parse("/msg bob /exit"), msg("bob", "/exit"));
        assert_eq!(Typed::parse("/msg bob\ntwo\nlines"), msg("bob", "\ntwo\nlines"));
        for wrong in ["/msg", "/msg bob", "/msg bob  "] {
            assert!(matches!(Typed::parse(wrong), Typed::Wrong(_)), "{wrong:?}");
        }
    }

    #[test]
    fn commands_are_known_and_nothing_else_is_one() {
        assert_eq!(Typed::parse("/list"), Typed::List);
        assert_eq!(Typed::parse("/help "), Typed::Help);
        assert_eq!(Typed::parse("/exit"), Typed::Exit);
        assert_eq!(Typed::parse("/quit"), Typed::Exit);
        let call = |words: &[&str]| Typed::Connect(words.iter().map(|w| (*w).into()).collect());
        assert_eq!(Typed::parse("/connect bob"), call(&["bob"]));
        assert_eq!(Typed::parse("/connect ::1 99"), call(&["::1", "99"]));
        let wrong = [
            "/",
            "/exi",
            "/EXIT",
            "/exit now",
            "/list all",
            "/connect",
            "/connect a b c",
            "/ exit",
        ];
        for wrong in wrong {
            assert!(matches!(Typed::parse(wrong), Typed::Wrong(_)), "{wrong:?}");
        }
    }

    #[test]
    fn a_path_is_all_that_is_left() {
        let to_bob = |path: &str| Typed::Send { to: "bob".into(), path: path.into() };
        assert_eq!(Typed::parse("/send bob a.txt"), to_bob("a.txt"));
        assert_eq!(Typed::parse("/send  bob  my file.txt "), to_bob("my file.txt"));
        assert_eq!(Typed::parse("/bsend /tmp/x y"), Typed::SendAll("/tmp/x y".into()));
        let home = std::env::var("HOME").unwrap_or_default();
        assert_eq!(Typed::parse("/bsend ~/x"), Typed::SendAll(format!("{home}/x").into()));
        for wrong in ["/send", "/send bob", "/send bob ", "/bsend", "/bsend  "] {
            assert!(matches!(Typed::parse(wrong), Typed::Wrong(_)), "{wrong:?}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for (command, takes, _) in COMMANDS {
            let typed = Typed::parse(&format!("{command} {takes}"));
            assert!(!matches!(typed, Typed::Wrong(_)), "{command}");
        }
    }
}
