//! Configuration: one struct a subsystem.
