//! Disk images: they boot, outside programs have nothing to say against them, and they look as the reference's do.

mod boots;
mod facts;
mod formats;
mod image;
mod layouts;
mod refused;
