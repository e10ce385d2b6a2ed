//! Use cases: from a schematic and a version to what is served.
