//! The OCI client that fetches source images.
