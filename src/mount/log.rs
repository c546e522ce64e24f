//! Where the daemon's log lines go: standard error in the foreground, the
//! system's log in the background, a file if one is named; as text or as JSON.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::error::{Error, Result};
use crate::escape::escape;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    /// An object per line: level, message and what is known besides; the time, too, where the log
    /// has none of its own.
    Json,
}

/// Warnings and errors, and where the metrics are.
const DEFAULT: &str = "warn,upg::mount::metrics=info";

/// Where lines go, once that is settled; until then whoever mounts sees them on standard error.
static TARGET: OnceLock<Target> = OnceLock::new();

enum Target {
    StandardError,
    SystemLog,
    File(File),
}

/// Starts logging, on standard error until [`log_to`] says where; `UPG_LOG` sets the level (error, warn,
/// info, debug). `timed`: that will not be the system's log, which knows the time.
pub fn start(format: Format, timed: bool) {
    let filter = EnvFilter::try_from_env("UPG_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    // A log that cannot be written is lost. To complain about it on standard error would be to
    // panic where that cannot be written either.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(ToTarget);
    match (format, timed) {
        (Format::Text, true) => builder.map_writer(Escaped).init(),
        (Format::Text, false) => builder.map_writer(Escaped).without_time().init(),
        (Format::Json, true) => builder.json().flatten_event(true).with_current_span(false).init(),
        (Format::Json, false) => builder.json().flatten_event(true).with_current_span(false).without_time().init(),
    }
}

/// Has lines go to the file, if there is one, else to the system's log from the background.
pub fn log_to(file: Option<&Path>, background: bool) -> Result<()> {
    let target = match file {
        Some(path) => {
            Target::File(File::options().create(true).append(true).open(path).map_err(|e| Error::io(path, e))?)
        }
        None if background => Target::SystemLog,
        None => Target::StandardError,
    };
    // A process mounts once.
    let _ = TARGET.set(target);
    Ok(())
}

/// Makes what sends a line to where lines go now.
struct ToTarget;

impl MakeWriter<'_> for ToTarget {
    type Writer = Box<dyn Write>;

    fn make_writer(&self) -> Box<dyn Write> {
        Target::writer(Level::WARN)
    }

    fn make_writer_for(&self, of: &Metadata<'_>) -> Box<dyn Write> {
        Target::writer(*of.level())
    }
}

impl Target {
    fn writer(level: Level) -> Box<dyn Write> {
        match TARGET.get() {
            None | Some(Target::StandardError) => Box::new(io::stderr()),
            Some(Target::SystemLog) => Box::new(SystemLog::of(level)),
            Some(Target::File(file)) => Box::new(file),
        }
    }
}

/// Writes lines of text with nothing in them that would drive a terminal, or would look like two lines:
/// messages name files. JSON has escapes of its own.
struct Escaped<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaped<M> {
    type Writer = Escaped<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0.make_writer())
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        Escaped(self.0.make_writer_for(of))
    }
}

impl<W: Write> Write for Escaped<W> {
    /// A line, as tracing-subscriber hands them over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        self.0.write_all(format!("{}{end}", escape(text)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Sends each line to the socket of syslog or journald, if there is one.
struct SystemLog {
    priority: u32,
}

/// Facility daemon, as RFC 5424 counts; with a severity it is a priority.
const DAEMON: u32 = 3 * 8;

impl SystemLog {
    fn of(level: Level) -> SystemLog {
        let severity = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        SystemLog { priority: DAEMON + severity }
    }
}

impl Write for SystemLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let message = format!("<{}>upg-mount[{}]: {}", self.priority, std::process::id(), text.trim_end());
        if let Ok(socket) = UnixDatagram::unbound() {
            // A log that is away or full must not hold a reader up.
            let _ = socket.set_nonblocking(true);
            let _ = socket.send_to(message.as_bytes(), "/dev/log");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        let mut out = Vec::new();
        let line = "WARN a\nERROR b\r\u{1b}[2J\u{202e}c\n";
        assert_eq!(Escaped(&mut out).write(line.as_bytes()).expect("memory"), line.len());
        assert_eq!(String::from_utf8_lossy(&out), "WARN a\\nERROR b\\r\\u{1b}[2J\\u{202e}c\n");
    }
}
