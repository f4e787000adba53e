//! The only place that prints. Results go to standard output, talk to standard error; a reader that has gone away is
//! success, because `ffrtmp ps | head -1` did what was asked.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
pub use ffrtmp_governor::core::redact::harmless;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::Format;

/// Where a command writes.
pub struct Output {
    format: Format,
    results: Box<dyn Write>,
    talk: Box<dyn Write>,
    terminal: bool,
    talk_terminal: bool,
    colour: bool,
    closed: bool,
}

/// A bar on standard error, where that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// How far it is.
    pub fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    /// What is going on.
    pub fn say(&self, text: &str) {
        self.0.set_message(harmless(text));
    }

    /// True when somebody sees it.
    pub fn visible(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Rows and columns of one result. Columns marked wide are left out of the plain table.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    wide: bool,
}

impl Rows {
    /// Columns that every table has.
    pub fn new(titles: &[&'static str]) -> Self {
        Self::default().with(titles, false)
    }

    /// Columns that only `wide` and `csv` have.
    #[must_use]
    pub fn wide(self, titles: &[&'static str]) -> Self {
        self.with(titles, true)
    }

    fn with(mut self, titles: &[&'static str], wide: bool) -> Self {
        self.columns
            .extend(titles.iter().map(|&title| Column { title, wide }));
        self
    }

    /// Adds a row; it has a cell for each column.
    pub fn push(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    fn aligned(&self, wide: bool, fit: bool) -> String {
        let shown = |index: usize| self.columns.get(index).is_some_and(|column| wide || !column.wide);
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // Cells are cut to a terminal's width; in a pipe every cell is whole, and so it is on a serial console that
        // calls itself 0 columns wide.
        let fit = fit && table.width().is_some_and(|columns| columns > 0);
        table.set_content_arrangement(if fit {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        let pick = |cells: Vec<&str>| -> Vec<String> {
            let kept = cells.into_iter().enumerate().filter(|(index, _)| shown(*index));
            kept.map(|(_, cell)| cell.to_owned()).collect()
        };
        table.set_header(pick(self.columns.iter().map(|column| column.title).collect()));
        for row in &self.rows {
            table.add_row(pick(row.iter().map(String::as_str).collect()));
        }
        let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }

    fn csv(&self) -> io::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.columns.iter().map(|column| column.title))?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}

impl Output {
    /// Standard output and standard error of this process.
    pub fn standard(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            results: Box::new(io::stdout()),
            talk: Box::new(io::stderr()),
            terminal,
            talk_terminal: io::stderr().is_terminal(),
            colour: terminal && !no_colour,
            closed: false,
        }
    }

    /// Writes into the given places, without colour.
    pub fn captured(format: Format, results: Box<dyn Write>, talk: Box<dyn Write>) -> Self {
        Self {
            format,
            results,
            talk,
            terminal: false,
            talk_terminal: false,
            colour: false,
            closed: false,
        }
    }

    /// How results are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// True once the reader of the results has gone away.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// A line for the person at the terminal. Whether they still read it changes nothing.
    pub fn talk(&mut self, line: &str) {
        let _reader_gone = writeln!(self.talk, "{line}");
    }

    /// A `[wrapper]` line.
    pub fn wrapper(&mut self, line: &str) {
        self.talk(&format!("[wrapper] {line}"));
    }

    /// A line of results.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.write(&format!("{line}\n"))
    }

    /// Results as a table, or as CSV.
    pub fn rows(&mut self, rows: &Rows) -> io::Result<()> {
        match self.format {
            Format::Csv => self.write(&rows.csv()?),
            Format::Wide => self.write(&rows.aligned(true, false)),
            Format::Table | Format::Json | Format::Yaml | Format::Bash => {
                self.write(&rows.aligned(false, self.terminal))
            }
        }
    }

    /// One row of CSV.
    pub fn csv_line(&mut self, cells: &[String]) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(cells)?;
        let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
        self.write(&String::from_utf8(bytes).map_err(io::Error::other)?)
    }

    /// A bar that ends at `length`.
    pub fn progress(&self, length: u64, name: &str) -> Progress {
        let target = if self.talk_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_prefix(name.to_owned());
        match ProgressStyle::with_template("{prefix} [{bar:32}] {msg}") {
            Ok(style) => bar.set_style(style.progress_chars("=> ")),
            Err(error) => debug_assert!(false, "{error}"),
        }
        Progress(bar)
    }

    /// Results as indented JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.line(&text)
    }

    /// One result of a stream, as JSON on one line.
    pub fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(&text)
    }

    /// The text, green, yellow or red where colour is wanted.
    pub fn paint(&self, mark: Mark, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        // The colours are ECMA-48's SGR numbers.
        let number = match mark {
            Mark::Good => 32,
            Mark::Warn => 33,
            Mark::Bad => 31,
        };
        format!("\x1b[{number}m{text}\x1b[0m")
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let written = self
            .results
            .write_all(text.as_bytes())
            .and_then(|()| self.results.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

/// What a coloured text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Works, with less.
    Warn,
    /// Does not work.
    Bad,
}

/// A figure, or a dash where it was not measured.
pub fn or_dash<T>(figure: Option<T>, show: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| "-".to_owned(), show)
}

/// Bytes with a binary unit and three digits.
pub fn bytes(count: u64) -> String {
    let mut figure = count as f64;
    for unit in ["B", "K", "M", "G"] {
        if figure < 1024.0 {
            return if unit == "B" || 99.5 <= figure {
                format!("{figure:.0}{unit}")
            } else {
                format!("{figure:.1}{unit}")
            };
        }
        figure /= 1024.0;
    }
    format!("{figure:.1}T")
}

/// A time to the second.
pub fn second(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A span in its two largest units.
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_success() {
        let mut output = Output::captured(Format::Table, Box::new(Gone), Box::new(Gone));
        output.talk("nobody hears this");
        output.line("x").unwrap();
        assert!(output.closed());
    }

    #[test]
    fn wide_columns_are_left_out_of_the_plain_table_only() {
        let mut rows = Rows::new(&["JOB"]).wide(&["UID"]);
        rows.push(vec!["a,b".to_owned(), "0".to_owned()]);
        assert_eq!(rows.aligned(false, false), " JOB\n a,b\n");
        assert_eq!(rows.aligned(true, false), " JOB  UID\n a,b  0\n");
        assert_eq!(rows.csv().unwrap(), "JOB,UID\n\"a,b\",0\n");
    }

    #[test]
    fn figures_are_short() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (150 << 20, "150M"),
            (4 << 30, "4.0G"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in [(0, "0s"), (61, "1m1s"), (7_260, "2h1m"), (90_000, "1d1h")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
