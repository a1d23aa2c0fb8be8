//! stdout, stderr and `--status-fd` of a listener: none of them is waited for while it listens.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::front::Told;
use crate::cli::common::CommonOptions;
use crate::cli::failure::{Code, Failure, system};
use crate::net::hub::Hub;
use crate::net::output::Output;

/// What was said last may take this long to be read.
const STDERR_PATIENCE: Duration = Duration::from_millis(500);

/// stdout, stderr, and whoever gets NDJSON.
pub struct Outputs {
    /// stdout.
    pub messages: Rc<RefCell<Output>>,
    stderr: Rc<RefCell<Output>>,
    reports: Vec<Rc<RefCell<Output>>>,
}

impl Outputs {
    /// Opens those that are asked for.
    ///
    /// # Errors
    /// [`Code::Usage`] for a descriptor that is not open, [`Code::Local`] for what the system says.
    pub fn open(options: &CommonOptions, hub: &Hub) -> Result<Self, Failure> {
        let local = |e: io::Error| Failure::new(Code::Local, system(&e));
        let messages = Output::stdout(hub.waker()).map_err(local)?;
        let messages = Rc::new(RefCell::new(messages));
        let mut reports = Vec::new();
        if options.json {
            reports.push(Rc::clone(&messages));
        }
        if let Some(file) = options.status_file()? {
            let status = Output::new(file, hub.waker()).map_err(local)?;
            reports.push(Rc::new(RefCell::new(status)));
        }
        let stderr = Output::stderr(hub.waker()).map_err(local)?;
        Ok(Self { messages, stderr: Rc::new(RefCell::new(stderr)), reports })
    }

    /// Where things are told beside the messages.
    pub fn told(&self) -> Told {
        Told { stderr: Rc::clone(&self.stderr), reports: self.reports.clone() }
    }

    /// Everything is written, or an error says what is not. Nothing is done about what stderr's
    /// reader does not read: there is nobody to tell.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn finish(&self, hub: &Hub) -> io::Result<()> {
        self.finish_stderr(hub);
        let give_up = || hub.signals.arrived().is_some();
        for report in &self.reports {
            report.borrow_mut().finish(give_up)?;
        }
        self.messages.borrow_mut().finish(give_up)
    }

    /// stderr is written, as far as somebody reads it.
    pub fn finish_stderr(&self, hub: &Hub) {
        let until = hub.clock.now().mono + STDERR_PATIENCE;
        let _ = self.stderr.borrow_mut().finish(|| hub.clock.now().mono >= until);
    }
}
