//! Somebody who was found, as a line or as an object.

use super::people::People;
use crate::cli::json::{self, Event};
use crate::cli::sanitize::sanitize_line;
use crate::crypto::sodium::PublicKey;
use crate::discover::roster::{Entry, Id, Status};
use crate::keys::fingerprint;
use crate::keys::names::excerpt;
use crate::net::resolve::HostPort;
use crate::proto::datagram::presence::{Carrier, Endpoint};

/// One listener of somebody who was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Petname; of a group's member `GROUP/NAME`, with a `?` behind a name that is only claimed.
    pub name: String,
    /// `HOST:PORT`, checked by a round trip; `relay NAME` of who listens there.
    pub address: String,
    /// How present.
    pub status: Status,
    /// By what; `None`: by a relay.
    pub carrier: Option<Carrier>,
    /// Of a member who introduced itself and is no contact.
    pub stranger: Option<PublicKey>,
}

/// The rows of one entry: one for each of its endpoints.
pub fn rows(people: &People, id: &Id, entry: &Entry) -> Vec<Row> {
    let (name, stranger) = name(people, id, entry);
    let row = |at: &Endpoint| Row {
        name: name.clone(),
        address: address(entry, at.port),
        status: entry.status,
        carrier: Some(at.carrier),
        stranger,
    };
    entry.endpoints.iter().map(row).collect()
}

/// The row of somebody who listens at `relay`: of a group each program, by a number of its own.
pub fn at_relay(people: &People, relay: &str, id: &Id, entry: &Entry) -> Row {
    let sought = people.names.get(id.sought).map_or("", String::as_str);
    let name = match id.instance {
        [0, 0, 0, 0, 0, 0, 0, 0] => sought.to_owned(),
        [a, b, c, d, ..] => format!("{sought}/{a:02x}{b:02x}{c:02x}{d:02x}"),
    };
    let address = format!("relay {relay}");
    Row { name, address, status: entry.status, carrier: None, stranger: None }
}

/// `HOST:PORT` of a listener of somebody who was found.
fn address(entry: &Entry, port: u16) -> String {
    HostPort { port, ..entry.address.into() }.to_string()
}

fn name(people: &People, id: &Id, entry: &Entry) -> (String, Option<PublicKey>) {
    let sought = people.names.get(id.sought).map_or("", String::as_str);
    let Some(member) = &entry.claim else { return (sought.to_owned(), None) };
    if let Some(petname) = people.contacts.get(&member.public) {
        return (format!("{sought}/{petname}"), None);
    }
    if people.own == Some(member.public) {
        return (format!("{sought}/me"), None);
    }
    // No blanks: whoever splits lines into words is not deceived.
    let claimed = sanitize_line(&excerpt(&member.name)).replace(char::is_whitespace, "_");
    (format!("{sought}/{claimed}?"), Some(member.public))
}

impl Row {
    /// The columns, in order.
    pub fn columns(&self) -> Vec<String> {
        let carrier = carrier(self.carrier);
        let mut columns = vec![self.name.clone(), self.address.clone()];
        columns.extend([self.status.name(), carrier].map(str::to_owned));
        columns.extend(self.stranger.as_ref().map(fingerprint));
        columns
    }

    /// For a pipe: tabs between the columns.
    pub fn line(&self) -> String {
        format!("{}\n", self.columns().join("\t"))
    }

    /// For a program.
    pub fn json(&self) -> String {
        let digits = self.stranger.as_ref().map(fingerprint);
        json::line(&Event::Presence {
            name: &self.name,
            status: self.status.name(),
            address: &self.address,
            transport: carrier(self.carrier),
            unproven: self.stranger.is_some(),
            fingerprint: digits.as_deref(),
        })
    }
}

fn carrier(carrier: Option<Carrier>) -> &'static str {
    match carrier {
        Some(Carrier::Tcp) => "tcp",
        Some(Carrier::Udp) => "udp",
        None => "relay",
    }
}

/// Columns one below the other, as wide as the widest of each.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |s: &String| s.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(width).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, wide)| format!("{cell:wide$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
