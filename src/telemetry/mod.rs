//! Names of log fields and metrics.
