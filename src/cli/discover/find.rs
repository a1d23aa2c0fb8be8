//! Who is here now: a list, or the addresses of those who are named, or waiting for one.

use std::io::IsTerminal as _;
use std::time::Duration;

use mio::Events;

use super::hunt::Hunt;
use super::people::People;
use super::show::Row;
use super::{Ended, Options, WITHIN, local, save, say};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::print;
use crate::cli::units;
use crate::discover::roster::{Entry, Id, Status};
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
    let endless = options.wait.is_some();
    let mut hunt = Hunt::begin(options, &mut people, &hub, endless)?;
    let within = options.within.or((!endless).then_some(WITHIN));
    let asked = Asked { options, people: &people, named: !names.is_empty(), groups, within };
    let found = asked.run(&mut hub, &mut hunt)?;
    if hunt.was_refused() {
        say(options, "the relay has no room for all that was asked: name those that you look for");
    }
    asked.tell(&hunt, found)
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
    fn run(&self, hub: &mut Hub, hunt: &mut Hunt) -> Result<usize, Ended> {
        let mut events = Events::with_capacity(64);
        let (mut printed, mut complete) = (0, None);
        loop {
            for (id, entry) in hunt.turn(hub)? {
                printed += self.news(hunt, &id, &entry)?;
            }
            if !hunt.has_network() && self.options.wait.is_none() {
                return Err(no_network(self.options).into());
            }
            if complete.is_none() && self.is_complete(hunt) {
                let linger = if self.named { Duration::ZERO } else { LINGER };
                complete = Some(hub.clock.now().mono + linger);
            }
            let over = self.within.and_then(|within| hunt.since().map(|since| since + within));
            let until = over.into_iter().chain(complete).min();
            if until.is_some_and(|until| hub.clock.now().mono >= until) {
                return Ok(printed);
            }
            hunt.wait(hub, &mut events, until)?;
            if let Some(signal) = hub.signals.arrived() {
                return Err(Ended::Signal(signal));
            }
        }
    }

    /// A list is printed as it grows.
    fn news(&self, hunt: &Hunt, id: &Id, entry: &Entry) -> Result<usize, Failure> {
        if entry.status != Status::Online {
            return Ok(0);
        }
        save::file(self.options, self.people, id, entry)?;
        let rows: Vec<_> = self.wanted(hunt, id, entry);
        for row in &rows {
            self.options.common.publish(&row.json())?;
            if !self.named && !self.options.common.json {
                print(self.line(row).as_bytes())?;
            }
        }
        Ok(rows.len())
    }

    /// Of a list all rows, of those who are named the one that is asked for.
    fn wanted(&self, hunt: &Hunt, id: &Id, entry: &Entry) -> Vec<Row> {
        let mut rows = hunt.rows(self.options, self.people, id, entry);
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

    fn is_complete(&self, hunt: &Hunt) -> bool {
        let here = |sought: usize| self.address_of(hunt, sought).is_some();
        (self.named || !self.groups) && (0..self.people.names.len()).all(here)
    }

    /// The first row of whoever is sought under this number.
    fn address_of(&self, hunt: &Hunt, sought: usize) -> Option<Row> {
        let mut of_it = hunt
            .roster()
            .iter()
            .filter(|(id, entry)| id.sought == sought && entry.status == Status::Online);
        of_it.find_map(|(id, entry)| self.wanted(hunt, id, entry).into_iter().next())
    }

    /// The addresses of those who are named, and what is to be said of those who are not here.
    fn tell(&self, hunt: &Hunt, printed: usize) -> Result<(), Ended> {
        let time = units::seconds(self.within.unwrap_or(WITHIN));
        if !self.named {
            let nobody = || absent(hunt, format!("nobody was found within {time}"));
            return if printed == 0 { Err(nobody().into()) } else { Ok(()) };
        }
        let mut missing = Vec::new();
        for (sought, name) in self.people.names.iter().enumerate() {
            match self.address_of(hunt, sought) {
                Some(row) => self.print_address(sought, &row)?,
                None => missing.push(name.as_str()),
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => {
                let what = format!("{}: not found within {time}", missing.join(", "));
                Err(absent(hunt, what).into())
            }
        }
    }

    fn print_address(&self, sought: usize, row: &Row) -> Result<(), Failure> {
        if row.carrier == Some(Carrier::Udp) && !self.options.udp {
            let name = &self.people.names[sought];
            say(self.options, &format!("{name}: listens for datagrams: ac-send -u"));
        }
        if self.options.common.json {
            return Ok(());
        }
        // As it was said: a path stays one, and leads ac-send to the same key.
        let word = self.options.names.get(sought).filter(|_| self.people.names.len() > 1);
        let line = match (word, &self.options.via) {
            (Some(word), Some(_)) => format!("{word}\n"),
            (None, Some(relay)) => format!("{relay}\n"),
            (Some(word), None) => format!("{word}@{}\n", row.address),
            (None, None) => format!("{}\n", row.address),
        };
        print(line.as_bytes())
    }
}

fn absent(hunt: &Hunt, what: String) -> Failure {
    let listen = match hunt.relay() {
        Some(_) => "there (ac-listen --via RELAY)",
        None => "with --announce",
    };
    Failure::new(Code::Unreachable, what).hint(format!(
        "they are found if they listen {listen} and have you among their contacts, and if your \
         clocks are less than 5 minutes apart",
    ))
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
