//! Signing what we make.
