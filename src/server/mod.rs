//! Accept loop, TLS, limits, drain.
