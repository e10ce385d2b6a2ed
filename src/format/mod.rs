//! On-disk formats as sans-I/O layouts.
