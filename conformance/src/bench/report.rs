//! Lines of the table, and what is done with samples.

use std::time::Duration;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Our figure.
    pub ours: String,
    /// The peer's, or nothing to compare with.
    pub peer: String,
    /// Ours by theirs, or nothing.
    pub ratio: String,
    /// What it should be, or nothing.
    pub target: String,
    /// Whether it is, where there is a target.
    pub met: Option<bool>,
}

impl Line {
    /// A figure without a target.
    pub fn figure(what: impl Into<String>, ours: impl Into<String>) -> Self {
        let (what, ours) = (what.into(), ours.into());
        Self { what, ours, peer: String::new(), ratio: String::new(), target: String::new(), met: None }
    }

    /// A figure that should be at most `limit`.
    pub fn at_most(what: impl Into<String>, value: f64, limit: f64, show: impl Fn(f64) -> String) -> Self {
        let target = format!("≤ {}", show(limit));
        Self { target, met: Some(value <= limit), ..Self::figure(what, show(value)) }
    }

    /// Times in seconds: ours should be `factor` times shorter than the peer's.
    pub fn faster(what: impl Into<String>, ours: f64, peer: f64, factor: f64) -> Self {
        let ratio = peer / ours;
        Self {
            peer: seconds(peer),
            ratio: format!("{ratio:.1} × faster"),
            target: format!("≥ {factor} ×"),
            met: Some(ratio >= factor),
            ..Self::figure(what, seconds(ours))
        }
    }

    /// Times in seconds: ours should be at most `factor` times the peer's.
    pub fn time_of(what: impl Into<String>, ours: f64, peer: f64, factor: f64) -> Self {
        let ratio = ours / peer;
        Self {
            peer: seconds(peer),
            ratio: format!("{ratio:.2} × its time"),
            target: format!("≤ {factor} ×"),
            met: Some(ratio <= factor),
            ..Self::figure(what, seconds(ours))
        }
    }

    /// Rates: ours should be at least `factor` times the peer's.
    pub fn rate(what: impl Into<String>, ours: f64, peer: f64, factor: f64, show: impl Fn(f64) -> String) -> Self {
        let ratio = ours / peer;
        Self {
            peer: show(peer),
            ratio: format!("{ratio:.2} ×"),
            target: format!("≥ {factor} ×"),
            met: Some(ratio >= factor),
            ..Self::figure(what, show(ours))
        }
    }

    /// Adds the name of the peer.
    #[must_use]
    pub fn against(mut self, name: &str) -> Self {
        self.peer = format!("{} ({name})", self.peer);
        self
    }

    /// The line as a row of a Markdown table.
    pub fn row(&self) -> String {
        let verdict = match self.met {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let cells = [&self.what, &self.ours, &self.peer, &self.ratio, &self.target];
        format!("| {} | {verdict} |", cells.map(String::as_str).join(" | "))
    }
}

/// The head of the table.
pub const HEAD: &str = "| what | ours | peer | ratio | target | |\n| --- | --- | --- | --- | --- | --- |";

/// The middle of samples; of none, not a number.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The sample below which `part` of all lie.
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Durations in seconds.
pub fn in_seconds(samples: &[Duration]) -> Vec<f64> {
    samples.iter().map(Duration::as_secs_f64).collect()
}

/// A time as it is read best.
pub fn seconds(value: f64) -> String {
    match value {
        value if value < 0.01 => format!("{:.2} ms", value * 1e3),
        value if value < 1.0 => format!("{:.0} ms", value * 1e3),
        value => format!("{value:.2} s"),
    }
}

/// Bytes a second as it is read best.
pub fn bandwidth(value: f64) -> String {
    format!("{:.2} GB/s", value / 1e9)
}

/// Requests a second.
pub fn requests(value: f64) -> String {
    format!("{value:.0}/s")
}

/// A number of bytes as it is read best.
pub fn bytes(value: f64) -> String {
    match value {
        value if value < 10_240.0 => format!("{value:.0} B"),
        value if value < 1_048_576.0 => format!("{:.1} KiB", value / 1024.0),
        value => format!("{:.1} MiB", value / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        let hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.99), quantile(&hundred, 1.0)), (99.0, 100.0));
    }

    #[test]
    fn verdicts() {
        assert_eq!(Line::faster("x", 0.1, 10.0, 100.0).met, Some(true));
        assert_eq!(Line::faster("x", 0.11, 10.0, 100.0).met, Some(false));
        assert_eq!(Line::time_of("x", 1.2, 1.0, 1.2).met, Some(true));
        assert_eq!(Line::rate("x", 2.9, 1.0, 3.0, requests).met, Some(false));
        let line = Line::at_most("x", 65.0 * 1_048_576.0, 64.0 * 1_048_576.0, bytes);
        assert_eq!(line.row(), "| x | 65.0 MiB |  |  | ≤ 64.0 MiB | MISSED |");
    }
}
