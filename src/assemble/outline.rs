//! What the parts of a file are, for people who want to understand it.

use std::ops::Range;

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
}
