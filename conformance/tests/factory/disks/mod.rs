//! Disk images: they boot, outside programs have nothing to say against them, and they look as the reference's do.

mod boots;
mod image;
