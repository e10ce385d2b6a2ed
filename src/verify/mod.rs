//! Trust policy for source images.
