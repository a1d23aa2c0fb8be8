//! Public mode: another implementation of DNS-SD, python-zeroconf, sees who announces `--as NAME`,
//! and `--public` lists whom it shows. Nothing is shown without being asked for.

use crate::testkit::{common, machines};

use std::process::{Command, Stdio};

use common::{DEADLINE, Home, Running, assert_code, possible, run};
use machines::Lan;

const BROWSE: &str = r#"
import sys
from zeroconf import ServiceBrowser, ServiceListener, Zeroconf
class Listener(ServiceListener):
    def add_service(self, zc, kind, name):
        info = zc.get_service_info(kind, name)
        if info:
            print(name, ",".join(info.parsed_addresses()), info.port, sep="|", flush=True)
    def update_service(self, zc, kind, name): pass
    def remove_service(self, zc, kind, name): print("gone", name, sep="|", flush=True)
zc = Zeroconf()
browser = ServiceBrowser(zc, ["_anonchat._tcp.local.", "_anonchat._udp.local."], Listener())
print("ready", flush=True)
sys.stdin.read()
"#;

const SHOW: &str = r#"
import socket, sys
from zeroconf import ServiceInfo, Zeroconf
zc = Zeroconf()
kind = "_anonchat._tcp.local."
info = ServiceInfo(kind, sys.argv[1] + "." + kind, port=99,
                   addresses=[socket.inet_aton(sys.argv[2])], server="somewhere.local.")
zc.register_service(info)
print("ready", flush=True)
sys.stdin.read()
"#;

/// Two machines, and Python with zeroconf.
fn lan() -> Option<Lan> {
    let imports = ["-c", "import zeroconf"];
    let found = Command::new("python3").args(imports).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if possible(found, "python3 -m pip install zeroconf") { Lan::new(2) } else { None }
}

#[test]
fn another_implementation_sees_who_chose_to_be_seen_until_they_go() {
    let Some(lan) = lan() else { return };
    let (bob, machine) = (Home::with_identity(), &lan.hosts[1]);
    let browser = Running::start(lan.hosts[0].python(BROWSE, &[]));
    browser.wait_stdout("the browser is ready", |out| out.starts_with(b"ready\n"));
    let announce = |args: &[&str]| {
        let running = Running::start(machine.command(&bob, "ac-discover", args));
        running.wait_stderr("announcing ");
        running
    };
    let _hidden = announce(&["--announce", "1"]);
    let mut seen = announce(&["--announce", "1234", "--as", "Bob B. Smith"]);
    let _udp = announce(&["--announce", "1235", "-u", "--as", "bob"]);
    let said = |line: &str| {
        browser.wait_stdout(line, |out| String::from_utf8_lossy(out).contains(line));
    };
    said("Bob B. Smith._anonchat._tcp.local.|10.0.0.2");
    said("|1234\n");
    said("bob._anonchat._udp.local.|10.0.0.2");
    seen.signal(rustix::process::Signal::TERM);
    assert!(!seen.wait_exit(DEADLINE).success());
    said("gone|Bob B. Smith._anonchat._tcp.local.");
    let all = String::from_utf8(browser.stdout()).unwrap();
    assert!(!all.contains("|1\n"), "who did not ask for it is seen: {all}");
}

#[test]
fn those_who_chose_to_be_seen_are_listed_with_names_that_nothing_proves() {
    let Some(lan) = lan() else { return };
    let alice = Home::new();
    // What a terminal would act on more than that the Python package refuses to say.
    let evil = "bob \u{202e}evil";
    let shown = Running::start(lan.hosts[1].python(SHOW, &[evil, "10.0.0.2"]));
    shown.wait_stdout("it is shown", |out| out.starts_with(b"ready\n"));
    let listed =
        run(lan.hosts[0].command(&alice, "ac-discover", &["--public", "-w", "3s"]), b"", DEADLINE);
    assert_code(&listed, 0);
    let line = String::from_utf8(listed.stdout).unwrap();
    assert!(line.ends_with("?\t10.0.0.2:99\tpublic\ttcp\n"), "{line:?}");
    assert!(line.starts_with("bob_") && !line.contains('\u{202e}'), "{line:?}");
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(said.contains("nothing is proven"), "{said}");
}
