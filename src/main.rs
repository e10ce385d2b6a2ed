//! The `image-factory` binary.

fn main() {}
