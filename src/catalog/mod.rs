//! Versions, extensions and overlays of a release.
