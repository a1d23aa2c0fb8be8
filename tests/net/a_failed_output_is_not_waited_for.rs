//! An output whose error somebody has taken notice of already is over: nobody waits for it again.

use crate::testkit::common;

use std::io;
use std::time::Instant;

use anonchat::net::hub::Bell;
use anonchat::net::output::Output;
use common::{DEADLINE, eventually};
use mio::Poll;

#[test]
fn finishing_an_output_that_has_failed_ends_at_once() {
    let poll = Poll::new().unwrap();
    let bell = Bell::new(poll.registry()).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut output = Output::by_thread(writer, bell).unwrap();
    output.write(b"nobody reads this");
    output.push();
    let error = eventually("the error", DEADLINE, || output.take_error());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let since = Instant::now();
    output.finish(|| since.elapsed() > DEADLINE).unwrap();
    assert!(since.elapsed() < DEADLINE / 2, "it was waited for");
}
