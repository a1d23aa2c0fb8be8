//! Who is here now: a list, or the addresses of those who are named, or waiting for one.

use std::io::IsTerminal as _;
use std::time::Duration;

use mio::Events;

use super::people::People;
use super::show::{self, Row};
use super::{Ended, Options, WITHIN, local, save, say};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::print;
use crate::cli::units;
use crate::discover::roster::{Entry, Id, Status};
use crate::discover::seek::Search;
use crate::net::hub::Hub;
use crate::proto::datagram::presence::Carrier;

/// Once all are found, a second machine of one of them may still answer.
const LINGER: Duration = Duration::from_millis(100);

/// A search by its options.
pub fn run(options: &Options) -> Result<(), Ended> {
    let names = match &options.wait {
        Some(name) => std::slice::from_ref(name),
        None => &options.names,
    };
    let mut people = People::load(options, names)?;
    let groups = people.sought.iter().any(|sought| sought.is_group);
    let mut hub = Hub::new().map_err(local)?;
    let me = people.me.duplicate();
    let sought = std::mem::take(&mut people.sought);
    let endless = options.wait.is_some();
    let mut search =
        Search::new(hub.registry(), hub.clock.now(), me, sought, options.place.place(), endless)
            .map_err(local)?;
    options.trace().into_iter().for_each(|trace| search.show(trace));
    let within = options.within.or((!endless).then_some(WITHIN));
    let asked = Asked { options, people: &people, named: !names.is_empty(), groups, within };
    let found = asked.run(&mut hub, &mut search)?;
    asked.tell(&search, found)
}

/// What is asked for.
struct Asked<'a> {
    options: &'a Options,
    people: &'a People,
    /// Addresses alone are wanted.
    named: bool,
    /// Nobody knows how many there are to find.
    groups: bool,
    within: Option<Duration>,
}

impl Asked<'_> {
    /// Searches until all are found or the time is over. How many rows were printed.
    fn run(&self, hub: &mut Hub, search: &mut Search) -> Result<usize, Ended> {
        let mut events = Events::with_capacity(64);
        let began = hub.clock.now().mono;
        let mut until = self.within.map(|within| began + within);
        let (mut printed, mut complete) = (0, false);
        loop {
            for (id, entry) in search.turn(hub.clock.now()).map_err(local)? {
                printed += self.news(&id, &entry)?;
            }
            if !search.has_network() && self.options.wait.is_none() {
                return Err(no_network(self.options).into());
            }
            if !complete && self.is_complete(search) {
                complete = true;
                let linger = if self.named { Duration::ZERO } else { LINGER };
                let soon = hub.clock.now().mono + linger;
                until = Some(until.map_or(soon, |until| until.min(soon)));
            }
            if until.is_some_and(|until| hub.clock.now().mono >= until) {
                return Ok(printed);
            }
            search.wait(hub, &mut events, until).map_err(local)?;
            if let Some(signal) = hub.signals.arrived() {
                return Err(Ended::Signal(signal));
            }
        }
    }

    /// A list is printed as it grows.
    fn news(&self, id: &Id, entry: &Entry) -> Result<usize, Failure> {
        if entry.status != Status::Online {
            return Ok(0);
        }
        save::file(self.options, self.people, id, entry)?;
        let rows: Vec<_> = self.wanted(id, entry);
        for row in &rows {
            self.options.common.publish(&row.json())?;
            if !self.named && !self.options.common.json {
                print(self.line(row).as_bytes())?;
            }
        }
        Ok(rows.len())
    }

    /// Of a list all rows, of those who are named the one that is asked for.
    fn wanted(&self, id: &Id, entry: &Entry) -> Vec<Row> {
        let mut rows = show::rows(self.people, id, entry);
        if self.options.udp {
            rows.retain(|row| row.carrier == Carrier::Udp);
        }
        if self.named {
            rows.truncate(1);
        }
        rows
    }

    /// Names are short: most lists are straight though each line is printed when it is known.
    fn line(&self, row: &Row) -> String {
        if !std::io::stdout().is_terminal() {
            return row.line();
        }
        let wide = self.people.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut columns = row.columns();
        columns[0] = format!("{:wide$}", columns[0]);
        columns[1] = format!("{:21}", columns[1]);
        format!("{}\n", columns.join("  "))
    }

    fn is_complete(&self, search: &Search) -> bool {
        let here = |sought: usize| self.address_of(search, sought).is_some();
        (self.named || !self.groups) && (0..self.people.names.len()).all(here)
    }

    /// The first row of whoever is sought under this number.
    fn address_of(&self, search: &Search, sought: usize) -> Option<Row> {
        let mut of_it = search
            .seeker()
            .roster()
            .iter()
            .filter(|(id, entry)| id.sought == sought && entry.status == Status::Online);
        of_it.find_map(|(id, entry)| self.wanted(id, entry).into_iter().next())
    }

    /// The addresses of those who are named, and what is to be said of those who are not here.
    fn tell(&self, search: &Search, printed: usize) -> Result<(), Ended> {
        let time = units::seconds(self.within.unwrap_or(WITHIN));
        if !self.named {
            let nobody = || absent(format!("nobody was found within {time}"));
            return if printed == 0 { Err(nobody().into()) } else { Ok(()) };
        }
        let mut missing = Vec::new();
        for (sought, name) in self.people.names.iter().enumerate() {
            match self.address_of(search, sought) {
                Some(row) => self.print_address(sought, &row)?,
                None => missing.push(name.as_str()),
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(absent(format!("{}: not found within {time}", missing.join(", "))).into()),
        }
    }

    fn print_address(&self, sought: usize, row: &Row) -> Result<(), Failure> {
        if row.carrier == Carrier::Udp && !self.options.udp {
            let name = &self.people.names[sought];
            say(self.options, &format!("{name}: listens for datagrams: ac-send -u"));
        }
        if self.options.common.json {
            return Ok(());
        }
        let line = match self.options.names.get(sought) {
            // As it was said: a path stays one, and leads ac-send to the same key.
            Some(word) if self.people.names.len() > 1 => format!("{word}@{}\n", row.address),
            _ => format!("{}\n", row.address),
        };
        print(line.as_bytes())
    }
}

fn absent(what: String) -> Failure {
    Failure::new(Code::Unreachable, what).hint(
        "they are found if they listen with --announce and have you among their contacts, and if \
         your clocks are less than 30 s apart",
    )
}

/// There is nothing to seek on.
pub fn no_network(options: &Options) -> Failure {
    let names = &options.place.interface;
    let what = match names.is_empty() {
        true => "no network interface is up".to_owned(),
        false => format!("{}: no such interface, or it is down", names.join(", ")),
    };
    Failure::new(Code::Unreachable, what)
}
