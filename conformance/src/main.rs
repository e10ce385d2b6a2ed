//! The harness: meets a running image-factory as the world does.

fn main() {}
