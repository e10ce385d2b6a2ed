//! One file an asset: recipes become virtual files.
