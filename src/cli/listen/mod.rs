//! ac-listen: from options to a running listener, and from how it ended to an exit code.
//!
//! [`options`] is the command line. Before anything is heard, `settings` adds the configuration to
//! it, `keys` loads the keys that answer, `limits` says how much a caller may have, and [`inbox`],
//! `state` and `bind` open what they are named for. `hear` then binds and listens, while `front`
//! decides who is heard and tells the user, `work` gives messages to a command or a stream, and
//! `stage` prints them, with `recorded` into a history as well. `open` and `replay` print what is in
//! a file instead.

pub(super) mod bind;
pub(in crate::cli) mod front;
mod hear;
pub mod inbox;
mod keys;
mod limits;
mod open;
pub mod options;
pub(in crate::cli) mod recorded;
mod replay;
mod settings;
pub(in crate::cli) mod stage;
mod state;
mod work;

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use self::front::{Front, Policy};
use self::hear::Bound;
use self::inbox::Desk;
use self::keys::LocalKeys;
pub use self::options::Options;
use self::recorded::recorded;
use self::settings::Settings;
use self::stage::{Form, Printer};
use self::work::Work;
use super::chat::host::{Chatting, Parts};
use super::chat::keyboard::Keyboard;
use super::chat::once::Once;
use super::chat::view::View;
use super::chat::{self, Surface};
use super::ended::{Ended, keep_and_conclude};
use super::failure::{self, Code, Failure, check_descriptors};
use super::history;
use super::output::check_stdout;
use super::outputs::{Outputs, Told};
use super::via::Ways;
use crate::history::record::Recorder;
use crate::net::descriptors;
use crate::net::duplex::Quiet;
use crate::net::hub::Hub;
use crate::net::listen::Stage;
use crate::transfer::inbox::Inbox;

/// The name in front of what goes to stderr.
const PROGRAM: &str = "ac-listen";

/// As many descriptors are asked for: with them 8192 callers can wait for their handshake. More would
/// serve nobody, and some programs that `-e` starts close as many as there may be.
const DESCRIPTORS: usize = 32_768;

/// Listens.
///
/// # Errors
/// Everything that is not exit status 0 and no signal.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    check_stdout()?;
    check_descriptors("hear anybody")?;
    options.check()?;
    if let Some(path) = &options.replay {
        return replay::run(options, path);
    }
    descriptors::raise(DESCRIPTORS);
    let (settings, locals, inbox) = options.common.prepare(|| prepare(options))?;
    let boxes = options.open.as_deref().map(|path| (path, open::file(path)));
    let mut hub = Hub::new().map_err(local)?;
    let history = options.history.as_deref();
    let recorder = history::open_shared(&options.common, history, locals.owner, &hub)?;
    let (outputs, typing) = surface(options, inbox.is_some(), &hub)?;
    let told = outputs.told();
    let desk =
        Desk::new(inbox, &settings.inbox, hub.bell(), told.clone(), options.common.quiet, PROGRAM);
    let work = options.common.prepare(|| Work::new(options, &outputs, &hub))?;
    let mut front = options.common.prepare(|| admitting(options, &locals, told, desk))?.doing(work);
    let mut once = Once::new(stage(options, &outputs, recorder.as_ref())).ringing(
        options.bell,
        &outputs,
        &options.common,
    );
    let ended = match (boxes, typing) {
        (Some((path, file)), _) => {
            open::open(path, file, &mut hub, &locals.keys, &mut front, &mut once)
        }
        (None, None) => Bound::new(options, settings, &locals, &mut front)
            .and_then(|bound| bound.hear(&mut hub, &mut front, &mut once)),
        (None, Some((keyboard, view))) => {
            let takes_files = settings.inbox.directory.is_some();
            let silence = settings.silence;
            Bound::new(options, settings, &locals, &mut front).and_then(|bound| {
                let mut chat = Chatting::new(Parts {
                    keyboard,
                    view,
                    told: Told { bars: None, ..outputs.told() },
                    ears: Some(&mut front),
                    keyring: locals.keyring.as_ref(),
                    ways: Ways { via: &options.via, anonymous: false },
                    recorder: recorder.clone(),
                    clock: hub.clock,
                    bell: hub.bell(),
                    // The ears have it.
                    desk: None,
                    takes_files,
                    silence,
                });
                let ended = bound.hear(&mut hub, &mut chat, &mut once);
                chat::end(chat, ended, &outputs, &hub)
            })
        }
    };
    let stopped = matches!(ended, Err(Ended::Signal(_)));
    let worked = front.take_work().finish(&hub, stopped);
    let ended = ended.and_then(|()| worked.map_err(Ended::from));
    keep_and_conclude(ended, recorder.as_deref(), &outputs, &hub)
}

/// What is needed before anything is heard. Signals still end the program here: it may ask for
/// passphrases.
fn prepare(options: &Options) -> Result<(Settings, LocalKeys, Option<Inbox>), Failure> {
    options.check_files()?;
    let mut settings = Settings::new(options)?;
    options.check_state(&settings)?;
    let locals = LocalKeys::load(options)?;
    settings.relays = settings::relays(options, &settings.via, &locals)?;
    let inbox = settings.inbox.open()?;
    settings.state = state::open(options.state.as_deref(), &locals.keys)?;
    settings.announcing = settings::announcing(options, locals.keyring.as_ref())?;
    Ok((settings, locals, inbox))
}

/// Where messages go, and in a chat where lines are typed.
fn surface(
    options: &Options,
    takes_files: bool,
    hub: &Hub,
) -> Result<(Outputs, Option<(Keyboard, View)>), Failure> {
    if options.chat {
        let Surface { keyboard, outputs, view } = Surface::open(PROGRAM, &options.common, hub)?;
        // Without bars: they would be in an editor's way.
        return Ok((outputs, Some((keyboard, view))));
    }
    let outputs = Outputs::open_stream(&options.common, hub)?;
    Ok(match takes_files {
        true => (outputs.with_bars(&options.common, true), None),
        false => (outputs, None),
    })
}

/// Who is heard; whoever is named has to be a contact.
fn admitting<'a>(
    options: &Options,
    locals: &'a LocalKeys,
    told: Told,
    desk: Desk,
) -> Result<Front<'a>, Failure> {
    let policy = Policy {
        from: options.from.clone(),
        accept_unknown: options.accept_unknown,
        groups: locals.groups.clone(),
    };
    let front = Front::new(locals.keyring.as_ref(), policy, &options.common, told, desk)?;
    match front.unknown_names().first() {
        Some(stranger) => Err(unknown_contact(stranger)),
        None => Ok(front),
    }
}

/// What shows messages, or the stream of `-b`.
fn stage(
    options: &Options,
    outputs: &Outputs,
    recorder: Option<&Rc<RefCell<Recorder>>>,
) -> Box<dyn Stage> {
    match options.work.duplex {
        true => Box::new(Quiet(Rc::clone(&outputs.messages))),
        false => recorded(Printer::new(form(options), Rc::clone(&outputs.messages)), recorder),
    }
}

fn form(options: &Options) -> Form {
    Form::on_stdout(options.common.json, if options.null { b"\0" } else { b"" })
}

fn unknown_contact(name: &str) -> Failure {
    Failure::new(Code::Key, format!("{name}: no such contact"))
        .hint("file their public key: ac-keygen --import FILE --as NAME")
}

fn local(e: io::Error) -> Failure {
    failure::local(&e)
}
