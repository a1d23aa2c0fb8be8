//! A program whose stdout is closed has nowhere to write what it is asked for: exit status 1, and
//! nothing is acknowledged.

use crate::testkit::common;

use std::process::Command;

use common::{DEADLINE, Home, assert_code, program, run};

fn with_closed_stdout(home: &Home, name: &str, args: &str) -> std::process::Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$0\" {args} >&-")).arg(program(name));
    home.at_home(&mut shell);
    run(shell, b"", DEADLINE)
}

#[test]
fn a_listener_whose_stdout_is_closed_does_not_listen() {
    let home = Home::with_identity();
    let output = with_closed_stdout(&home, "ac-listen", "-1 127.0.0.1:0");
    assert_code(&output, 1);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "ac-listen: cannot write the output: stdout is closed\n");
}

#[test]
fn a_key_that_nobody_can_read_is_no_success() {
    let home = Home::with_identity();
    assert_code(&with_closed_stdout(&home, "ac-keygen", "-y"), 1);
}

#[test]
fn a_stdout_that_is_dev_null_is_open() {
    let home = Home::with_identity();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("exec \"$0\" -w 100ms 127.0.0.1:0 1<>/dev/null").arg(program("ac-listen"));
    home.at_home(&mut shell);
    assert_code(&run(shell, b"", DEADLINE), 4);
}
