//! The ready line of whatever listens, or answers for who does.

use std::net::SocketAddr;

use crate::net::resolve::HostPort;
use crate::net::sockets::own_addresses;

/// `ADDRESS (TRANSPORT)`, and behind a wildcard the machine's own addresses.
pub fn place(address: SocketAddr, transport: &str) -> String {
    let mut line = format!("{} ({transport})", HostPort::from(address));
    if address.ip().is_unspecified() {
        let v4_only = address.is_ipv4();
        let own = own_addresses().into_iter().filter(|ip| ip.is_ipv4() || !v4_only);
        for (nth, ip) in own.enumerate() {
            let shown = SocketAddr::new(ip, address.port());
            line.push_str(&format!("{}{shown}", if nth == 0 { ": " } else { " " }));
        }
    }
    line
}
