//! Chat: two and more people type lines to each other.
//!
//! [`editor`] is the line that is being typed, `recall` and `complete` what its keys offer;
//! [`keyboard`] is that or stdin as it comes, and [`command`] understands what was typed. [`talk`]
//! knows who takes part and what waits to be said, [`seen`] what was shown already: both pure.
//! [`voice`] says one peer's lines on a session, [`once`] holds those that arrive until they are
//! whole. [`screen`] and [`view`] show what happens beside them. [`host`] puts it all around the
//! loop of a listener, with ears or without.

pub mod command;
pub mod complete;
pub mod editor;
pub mod host;
pub mod keyboard;
pub mod once;
pub mod recall;
pub mod screen;
pub mod seen;
pub mod talk;
pub mod view;
pub mod voice;

use std::io::{self, IsTerminal as _};
use std::rc::Rc;
use std::time::Duration;

use self::editor::{Editor, NUDGE};
use self::host::Chatting;
use self::keyboard::Keyboard;
use self::screen::Screen;
use self::view::View;
use super::common::CommonOptions;
use super::ended::Ended;
use super::failure::{self, Code, Failure};
use super::outputs::Outputs;
use crate::net::hub::Hub;
use crate::net::output::Output;

/// At the end, what is to be shown above the line may take this long.
const SHOWING_TIME: Duration = Duration::from_secs(1);

/// Where a chat is typed and shown.
pub struct Surface {
    /// Lines.
    pub keyboard: Keyboard,
    /// Messages, what is told, and reports.
    pub outputs: Outputs,
    /// What is shown beside the messages.
    pub view: View,
}

impl Surface {
    /// A line editor on a terminal, unless messages are for a program; else stdin and stdout as
    /// they are. `program` stands before what goes to stderr.
    ///
    /// # Errors
    /// [`Code::Usage`] for a descriptor that is not open, [`Code::Local`] for what the system says.
    pub fn open(
        program: &'static str,
        options: &CommonOptions,
        hub: &Hub,
    ) -> Result<Self, Failure> {
        let (keyboard, outputs) = match !options.json && editor::is_possible() {
            true => edited(options, hub)?,
            false => (Keyboard::stdin(&hub.bell()).map_err(local)?, Outputs::open(options, hub)?),
        };
        let screen = keyboard.is_edited().then(|| Screen::new(Rc::clone(&outputs.messages)));
        let view = View::new(program, outputs.told(), screen, options.quiet);
        Ok(Self { keyboard, outputs, view })
    }
}

/// What is told on the terminal stands above the line, too.
fn edited(options: &CommonOptions, hub: &Hub) -> Result<(Keyboard, Outputs), Failure> {
    let (editor, above) = Editor::start(hub.bell()).map_err(local)?;
    let messages = Output::by_thread(above, hub.bell()).map_err(local)?;
    let stderr = match io::stderr().is_terminal() {
        true => None,
        false => Some(Output::stderr(hub.bell()).map_err(local)?),
    };
    let outputs = Outputs::around(messages, stderr, Some(SHOWING_TIME), options, hub)?;
    Ok((Keyboard::Editor(editor), outputs))
}

/// The end of a chat: what was not delivered is told, everything is shown that was to be, and the
/// terminal is as it was.
///
/// # Errors
/// How it `ended`, or else what the chat itself failed with.
pub fn end(
    chat: Chatting<'_>,
    ended: Result<(), Ended>,
    outputs: &Outputs,
    hub: &Hub,
) -> Result<(), Ended> {
    let (keyboard, failure) = chat.finish();
    if keyboard.is_edited() {
        show_all(&mut outputs.messages.borrow_mut(), hub);
    }
    drop(keyboard);
    ended.and(failure.map_or(Ok(()), |failure| Err(failure.into())))
}

fn show_all(messages: &mut Output, hub: &Hub) {
    let until = hub.clock.now().mono + SHOWING_TIME;
    // The editor takes one while it shows the one before.
    messages.write(NUDGE);
    messages.mark();
    messages.write(NUDGE);
    let last = messages.mark();
    // An error will be found when the output is finished.
    while messages.flushed() < last && hub.clock.now().mono < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is said of a chat with -u.
pub fn needs_tcp() -> Failure {
    Failure::new(Code::Usage, "-i with -u: a chat is a connection, and datagrams have none")
        .hint("leave out -u, or send single messages with it")
}

fn local(e: io::Error) -> Failure {
    failure::local(&e)
}
