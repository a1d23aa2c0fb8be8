//! stdout, stderr and `--status-fd` of a program that runs for long: none of them is waited for
//! while it does.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::common::CommonOptions;
use super::failure::{self, Failure};
use super::json::{self, Event};
use super::progress::{self, Bars};
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
    bars: Option<Bars>,
    /// What goes to an editor's terminal may take so long at the end, if it does.
    patience: Option<Duration>,
}

impl Outputs {
    /// Opens those that are asked for.
    ///
    /// # Errors
    /// [`Code::Usage`] for a descriptor that is not open, [`Code::Local`] for what the system says.
    pub fn open(options: &CommonOptions, hub: &Hub) -> Result<Self, Failure> {
        Self::with(Output::stdout(hub.bell()), options, hub)
    }

    /// The same where messages are a stream, see [`Output::stream`].
    ///
    /// # Errors
    /// As [`Outputs::open`].
    pub fn open_stream(options: &CommonOptions, hub: &Hub) -> Result<Self, Failure> {
        Self::with(Output::stream(&hub.bell()), options, hub)
    }

    fn with(
        messages: io::Result<Output>,
        options: &CommonOptions,
        hub: &Hub,
    ) -> Result<Self, Failure> {
        let messages = messages.map_err(local)?;
        let stderr = Output::stderr(hub.bell()).map_err(local)?;
        Self::around(messages, Some(stderr), None, options, hub)
    }

    /// The same where messages go to `messages`, and what is told for people to `stderr`, or
    /// between the messages. At the end `patience` is all that they are waited for.
    ///
    /// # Errors
    /// As [`Outputs::open`].
    pub fn around(
        messages: Output,
        stderr: Option<Output>,
        patience: Option<Duration>,
        options: &CommonOptions,
        hub: &Hub,
    ) -> Result<Self, Failure> {
        let messages = Rc::new(RefCell::new(messages));
        let mut reports = Vec::new();
        if options.json {
            reports.push(Rc::clone(&messages));
        }
        if let Some(file) = options.status_file()? {
            let status = Output::new(file, hub.bell()).map_err(local)?;
            reports.push(Rc::new(RefCell::new(status)));
        }
        let stderr =
            stderr.map_or_else(|| Rc::clone(&messages), |stderr| Rc::new(RefCell::new(stderr)));
        Ok(Self { messages, stderr, reports, bars: None, patience })
    }

    /// Shows what is on its way, unless `options` or the terminal say otherwise.
    #[must_use]
    pub fn with_bars(mut self, options: &CommonOptions, stdout_bears_anything: bool) -> Self {
        if !options.quiet && progress::wanted(stdout_bears_anything) {
            self.bars = Some(Bars::new(Rc::clone(&self.stderr)));
        }
        self
    }

    /// Where things are told beside the messages.
    pub fn told(&self) -> Told {
        let bars = self.bars.clone();
        let (stderr, reports) = (Rc::clone(&self.stderr), self.reports.clone());
        Told { stderr, reports, bars, keeps_all: false }
    }

    /// Everything is written, or an error says what is not. Nothing is done about what stderr's
    /// reader does not read: there is nobody to tell.
    ///
    /// # Errors
    /// The first error of any of them.
    pub fn finish(&self, hub: &Hub) -> io::Result<()> {
        self.finish_stderr(hub);
        let until = self.patience.map(|patience| hub.clock.now().mono + patience);
        let late = || until.is_some_and(|until| hub.clock.now().mono >= until);
        let give_up = || hub.signals.arrived().is_some() || late();
        for report in &self.reports {
            report.borrow_mut().finish(give_up)?;
        }
        self.messages.borrow_mut().finish(give_up)
    }

    /// What was reported is written, as far as somebody reads it soon.
    pub fn finish_reports(&self, hub: &Hub) {
        let until = hub.clock.now().mono + STDERR_PATIENCE;
        for report in &self.reports {
            let _ = report.borrow_mut().finish(|| hub.clock.now().mono >= until);
        }
    }

    /// stderr is written, as far as somebody reads it.
    pub fn finish_stderr(&self, hub: &Hub) {
        let until = hub.clock.now().mono + STDERR_PATIENCE;
        let _ = self.stderr.borrow_mut().finish(|| hub.clock.now().mono >= until);
    }
}

/// Where a program tells things beside the messages. None of it waits for its reader: what does
/// not fit any more is not told.
#[derive(Clone)]
pub struct Told {
    /// For people.
    pub stderr: Rc<RefCell<Output>>,
    /// Where NDJSON goes, if it goes anywhere.
    pub reports: Vec<Rc<RefCell<Output>>>,
    /// What is on its way, if that is shown.
    pub bars: Option<Bars>,
    /// Nothing is left out, however long its reader pauses: for what no peer can make longer.
    pub keeps_all: bool,
}

impl Told {
    /// One line for people.
    pub fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.above(|| self.write(line)),
            None => self.write(line),
        }
    }

    fn write(&self, line: &str) {
        let mut stderr = self.stderr.borrow_mut();
        if self.keeps_all || stderr.has_room() {
            stderr.write(line.as_bytes());
            stderr.write(b"\n");
            stderr.push();
        }
    }

    /// One object for programs.
    pub fn report(&self, event: &Event<'_>) {
        if self.reports.is_empty() {
            return;
        }
        let line = json::line(event);
        for output in &self.reports {
            let mut output = output.borrow_mut();
            if self.keeps_all || output.has_room() {
                output.write(line.as_bytes());
                output.push();
            }
        }
    }
}

fn local(e: io::Error) -> Failure {
    failure::local(&e)
}
