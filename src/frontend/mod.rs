//! Doors: the registry and HTTP routes; the only room that maps errors to statuses.
