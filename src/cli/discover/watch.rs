//! A list of who is here that keeps itself up to date: drawn in place on a terminal, a line or an
//! object for each change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use mio::Events;

use super::hunt::Hunt;
use super::people::People;
use super::show::{self, Row};
use super::{Ended, Options, local, save, say};
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::discover::roster::{Entry, Id, Status};
use crate::net::hub::Hub;

/// Lists until a signal comes, or the time is over.
pub fn run(options: &Options) -> Result<(), Ended> {
    let mut people = People::load(options, &options.names)?;
    let mut hub = Hub::new().map_err(local)?;
    let mut hunt = Hunt::begin(options, &mut people, &hub, true)?;
    let in_place = std::io::stdout().is_terminal() && !options.common.json;
    let mut list = List { options, people: &people, shown: BTreeMap::new(), drawn: None, in_place };
    let until = options.within.map(|within| hub.clock.now().mono + within);
    let mut events = Events::with_capacity(64);
    let (mut alone, mut cut) = (false, false);
    loop {
        for (id, entry) in hunt.turn(&hub)? {
            list.change(&hunt, &id, &entry)?;
        }
        list.draw()?;
        if !hunt.has_network() && !std::mem::replace(&mut alone, true) {
            say(options, "no network interface is up: waiting for one");
        }
        alone &= !hunt.has_network();
        if hunt.is_cut() && !std::mem::replace(&mut cut, true) {
            say(
                options,
                &format!("relay {}: lost; trying again", hunt.relay().unwrap_or_default()),
            );
        }
        cut &= hunt.is_cut();
        if until.is_some_and(|until| hub.clock.now().mono >= until) {
            return Ok(());
        }
        hunt.wait(&mut hub, &mut events, until)?;
        if let Some(signal) = hub.signals.arrived() {
            return Err(Ended::Signal(signal));
        }
    }
}

/// What the user sees.
struct List<'a> {
    options: &'a Options,
    people: &'a People,
    shown: BTreeMap<Id, Vec<Row>>,
    /// How many lines stand on the terminal; `None` before the first.
    drawn: Option<usize>,
    in_place: bool,
}

impl List<'_> {
    fn change(&mut self, hunt: &Hunt, id: &Id, entry: &Entry) -> Result<(), Failure> {
        if entry.status == Status::Online {
            save::file(self.options, self.people, id, entry)?;
        }
        let rows = hunt.rows(self.options, self.people, id, entry);
        for row in &rows {
            self.options.common.publish(&row.json())?;
            if !self.in_place && !self.options.common.json {
                print(row.line().as_bytes())?;
            }
        }
        if entry.status == Status::Forgotten {
            self.shown.remove(id);
        } else {
            self.shown.insert(*id, rows);
        }
        // Whatever stands there is out of date.
        self.drawn = self.drawn.map(|lines| lines | REDRAW);
        Ok(())
    }

    /// Over what stands there already.
    fn draw(&mut self) -> Result<(), Failure> {
        let old = match self.drawn {
            _ if !self.in_place => return Ok(()),
            Some(lines) if lines & REDRAW == 0 => return Ok(()),
            Some(lines) => lines & !REDRAW,
            None => 0,
        };
        let (lines, width) = self.lines();
        let mut text = String::new();
        if old > 0 {
            text.push_str(&format!("\x1b[{old}A"));
        }
        for line in &lines {
            text.extend(line.chars().take(width));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = Some(lines.len());
        print(text.as_bytes())
    }

    /// As many as the terminal has room for, and its width.
    fn lines(&self) -> (Vec<String>, usize) {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
        let (height, width) = size.map_or((24, 80), |s| (s.ws_row.into(), s.ws_col.into()));
        let (height, width) = if height == 0 || width == 0 { (24, 80) } else { (height, width) };
        let rows: Vec<_> = self.shown.values().flatten().map(Row::columns).collect();
        if rows.is_empty() {
            return (vec!["nobody yet".to_owned()], width);
        }
        let mut lines = show::aligned(&rows);
        let room = usize::max(height - 1, 2);
        if lines.len() > room {
            let more = lines.len() - (room - 1);
            lines.truncate(room - 1);
            lines.push(format!("and {more} more"));
        }
        (lines, width)
    }
}

/// The lines that stand on the terminal are out of date.
const REDRAW: usize = 1 << 32;
