//! What the parts of a file are, for people who want to understand it.

use std::ops::Range;

use super::VirtualFile;

/// Named ranges of a file; they may lie inside one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    parts: Vec<(Range<u64>, String)>,
}

impl Outline {
    /// Names a range of bytes.
    pub fn add(&mut self, range: Range<u64>, name: impl Into<String>) {
        self.parts.push((range, name.into()));
    }

    /// Takes in the parts of a file that starts at `offset` of this one and is called `name` in it.
    pub fn nest(&mut self, offset: u64, name: &str, inner: Self) {
        let moved = inner.parts.into_iter();
        self.parts
            .extend(moved.map(|(range, part)| (range.start + offset..range.end + offset, format!("{name}: {part}"))));
    }

    /// Takes in the parts of a range of another file that stands as it is from `offset` on.
    pub fn take(&mut self, offset: u64, of: &Self, source: &Range<u64>) {
        for (range, name) in &of.parts {
            let (from, to) = (range.start.max(source.start), range.end.min(source.end));
            if from < to {
                self.add(from - source.start + offset..to - source.start + offset, name.as_str());
            }
        }
    }

    /// What stands in a range: the innermost part that holds all of it, or else the outermost ones of which it holds some.
    fn names_in(&self, range: &Range<u64>) -> Vec<&str> {
        let len = |part: &Range<u64>| part.end - part.start;
        let holding = self.parts.iter().filter(|(part, _)| part.start <= range.start && range.end <= part.end);
        if let Some((_, name)) = holding.min_by_key(|(part, _)| len(part)) {
            return vec![name.as_str()];
        }
        let mut touched: Vec<_> =
            self.parts.iter().filter(|(part, _)| part.start < range.end && range.start < part.end).collect();
        touched.sort_by_key(|(part, _)| (part.start, u64::MAX - len(part)));
        let (mut names, mut end) = (Vec::new(), 0);
        for (part, name) in touched {
            if part.end > end {
                end = part.end;
                names.push(name.as_str());
            }
        }
        names
    }

    /// The range of the first part of that name.
    pub fn range(&self, name: &str) -> Option<Range<u64>> {
        self.parts.iter().find(|(_, part)| part == name).map(|(range, _)| range.clone())
    }

    /// The name of the smallest part that holds a byte.
    pub fn name_at(&self, offset: u64) -> Option<&str> {
        let holding = self.parts.iter().filter(|(range, _)| range.contains(&offset));
        holding.min_by_key(|(range, _)| range.end - range.start).map(|(_, name)| name.as_str())
    }

    /// Where parts start and end inside a range, ascending: a piece between two of them has one name.
    pub fn cuts(&self, range: &Range<u64>) -> Vec<u64> {
        let all = self.parts.iter().flat_map(|(part, _)| [part.start, part.end]);
        let mut cuts: Vec<u64> = all.filter(|at| range.start < *at && *at < range.end).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}

/// A file that is laid out part by part, and what the parts are.
#[derive(Debug, Default)]
pub struct Parts {
    files: Vec<VirtualFile>,
    len: u64,
    outline: Outline,
}

impl Parts {
    /// Bytes so far.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was appended yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a part that is called `name`.
    pub fn push(&mut self, part: VirtualFile, name: impl Into<String>) {
        self.outline.add(self.len..self.len + part.len(), name);
        self.append(part);
    }

    /// Appends what was made of a range of another file, in the way that `how` names.
    pub fn push_made(&mut self, part: VirtualFile, how: &str, of: &Outline, source: &Range<u64>) {
        let names = of.names_in(source).join(", ");
        self.push(part, if names.is_empty() { how.to_owned() } else { format!("{how}: {names}") });
    }

    /// Appends a range of another file as it is, or more where zeros follow.
    pub fn push_as_it_is(&mut self, part: VirtualFile, of: &Outline, source: &Range<u64>) {
        self.outline.take(self.len, of, source);
        self.append(part);
    }

    /// Appends a file that is called `name` and has parts of its own.
    pub fn push_file(&mut self, part: VirtualFile, name: impl Into<String>, of: &Outline) {
        self.outline.take(self.len, of, &(0..part.len()));
        self.push(part, name);
    }

    fn append(&mut self, part: VirtualFile) {
        self.len += part.len();
        self.files.push(part);
    }

    /// The file.
    pub fn finish(self) -> (VirtualFile, Outline) {
        (VirtualFile::concat(self.files), self.outline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_name_counts() {
        let mut inner = Outline::default();
        inner.add(10..20, "section");
        let mut outer = Outline::default();
        outer.add(100..200, "file");
        outer.nest(100, "file", inner);
        assert_eq!(outer.name_at(99), None);
        assert_eq!(outer.name_at(100), Some("file"));
        assert_eq!(outer.name_at(110), Some("file: section"));
        assert_eq!(outer.name_at(120), Some("file"));
        assert_eq!(outer.cuts(&(100..115)), [110]);
    }

    #[test]
    fn parts_of_other_files_keep_their_names() {
        let mut disk = Outline::default();
        disk.add(0..10, "table");
        disk.add(20..60, "volume");
        disk.add(30..40, "volume: file");
        disk.add(60..70, "end");
        for (range, names) in [
            (31..40, vec!["volume: file"]),
            (25..35, vec!["volume"]),
            (0..65, vec!["table", "volume", "end"]),
            (10..20, vec![]),
        ] {
            assert_eq!(disk.names_in(&range), names, "{range:?}");
        }
        let mut parts = Parts::default();
        parts.push(VirtualFile::zeros(100), "header");
        parts.push_as_it_is(VirtualFile::zeros(20), &disk, &(20..35));
        parts.push_made(VirtualFile::zeros(7), "stored", &disk, &(55..65));
        parts.push_made(VirtualFile::zeros(1), "stored", &disk, &(10..20));
        assert_eq!(parts.len(), 128);
        let (file, outline) = parts.finish();
        assert_eq!(file.len(), 128);
        let names = [99, 100, 109, 110, 114, 115, 120, 127].map(|at| outline.name_at(at));
        let [volume, file] = ["volume", "volume: file"].map(Some);
        let (made, nothing) = (Some("stored: volume, end"), Some("stored"));
        assert_eq!(names, [Some("header"), volume, volume, file, file, None, made, nothing]);
    }
}
