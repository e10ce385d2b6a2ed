//! The picture that the stub shows while it boots: three plates stacked on black, drawn here.
//!
//! A BMP of 4 bits a pixel, uncompressed, lowest row first. Specification: Microsoft, "Bitmap Storage"; systemd-stub
//! reads 1, 4, 8, 24 and 32 bits, shows the picture in the middle of the screen and makes the rest black.

use bytes::Bytes;

/// Width in pixels; a row is a multiple of four bytes long.
const WIDTH: i32 = 192;
/// Height in pixels.
const HEIGHT: i32 = 160;
/// Lengths of file header, bitmap header and palette in bytes.
const HEADERS_LEN: u32 = 14 + 40 + 16 * 4;
/// Colours of the plates from top to bottom: red, green, blue.
const COLOURS: [[u8; 3]; 3] = [[0x8f, 0xe3, 0xd0], [0x3f, 0xa7, 0x9b], [0x1f, 0x5c, 0x63]];
/// How many shades between black and its colour each plate has, the colour included: 3 × 5 and black are 16.
const SHADES: u8 = 5;
/// Pixels are looked at in a grid of this many points each way, so that edges are smooth.
const GRID: i32 = 4;
/// Half the width and half the height of a plate, the room kept free around it, and from one plate to the next: pixels.
const PLATE: (i32, i32) = (72, 36);
const GAP: i32 = 8;
const STEP: i32 = 30;

/// The picture, the same bytes every time.
pub fn bmp() -> Bytes {
    let pixels_len = (WIDTH / 2 * HEIGHT) as u32;
    let mut out = Vec::with_capacity((HEADERS_LEN + pixels_len) as usize);
    out.extend_from_slice(b"BM");
    for field in [HEADERS_LEN + pixels_len, 0, HEADERS_LEN, 40, WIDTH as u32, HEIGHT as u32] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&[1, 0, 4, 0]); // one plane, 4 bits a pixel
    for field in [0, pixels_len, 0, 0, 16, 0] {
        out.extend_from_slice(&u32::to_le_bytes(field)); // not compressed, no resolution, 16 colours
    }
    out.extend_from_slice(&[0; 4]);
    for [red, green, blue] in COLOURS {
        for shade in 1..=SHADES {
            let of = |full: u8| (u16::from(full) * u16::from(shade) / u16::from(SHADES)) as u8;
            out.extend_from_slice(&[of(blue), of(green), of(red), 0]);
        }
    }
    for y in (0..HEIGHT).rev() {
        out.extend((0..WIDTH / 2).map(|pair| pixel(pair * 2, y) << 4 | pixel(pair * 2 + 1, y)));
    }
    out.into()
}

/// The palette entry of a pixel, counted from the upper left corner.
fn pixel(x: i32, y: i32) -> u8 {
    let mut hits = [0; COLOURS.len()];
    for point in 0..GRID * GRID {
        let (px, py) = ((x * GRID + point % GRID) * 2 + 1, (y * GRID + point / GRID) * 2 + 1);
        hits.iter_mut().zip(0..).filter(|(_, plate)| on_plate(px, py, *plate)).for_each(|(hits, _)| *hits += 1);
    }
    let seen = (0u8..).zip(hits).max_by_key(|(_, hits)| *hits);
    let (plate, hits) = seen.unwrap_or_default();
    let shade = (hits * i32::from(SHADES) + GRID * GRID / 2) / (GRID * GRID);
    if shade == 0 { 0 } else { plate * SHADES + shade as u8 }
}

/// Whether a point, counted in halves of the grid's step, lies on a plate and on or near no plate above it.
fn on_plate(px: i32, py: i32, plate: i32) -> bool {
    let inside = |plate: i32, gap: i32| {
        let (dx, dy) = (px - WIDTH * GRID, py - (HEIGHT / 2 + (plate - 1) * STEP) * GRID * 2);
        let (half_width, half_height) = ((PLATE.0 + 2 * gap) * GRID * 2, (PLATE.1 + gap) * GRID * 2);
        dx.abs() * half_height + dy.abs() * half_width <= half_width * half_height
    };
    inside(plate, 0) && !(0..plate).any(|above| inside(above, GAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd-stub checks of a BMP before it shows it, field by field.
    #[test]
    fn the_stub_accepts_it() {
        let bmp = bmp();
        let u32_at = |at: usize| u32::from_le_bytes(bmp[at..at + 4].try_into().unwrap());
        let (len, offset, width, height, colours) = (u32_at(2), u32_at(10), u32_at(18), u32_at(22), u32_at(46));
        assert_eq!(&bmp[..2], b"BM");
        assert_eq!(len as usize, bmp.len());
        assert_eq!(u32_at(14), 40);
        assert_eq!((bmp[26], bmp[28], u32_at(30)), (1, 4, 0), "one plane, 4 bits, not compressed");
        assert_eq!(offset - 54, colours * 4, "the palette fills the room before the pixels");
        assert_eq!((width * 4).div_ceil(32) * 4 * height, len - offset);
    }

    #[test]
    fn it_is_drawn_and_symmetric_and_always_the_same() {
        for y in 0..HEIGHT {
            for x in 0..WIDTH / 2 {
                assert_eq!(pixel(x, y), pixel(WIDTH - 1 - x, y), "{x} {y}");
            }
        }
        let plates = [HEIGHT / 2 - STEP, HEIGHT / 2 + STEP - 4, HEIGHT / 2 + 2 * STEP - 4].map(|y| pixel(WIDTH / 2, y));
        assert_eq!(plates, [5, 10, 15]);
        assert_eq!(pixel(0, 0), 0);
        let digest = crate::types::Digest::of(&bmp()).to_string();
        assert_eq!(digest, "sha256:d3b06eac5fddc9a838ed50e79e5b8241faa6bbb025e8a57aa403085aa48bf494");
    }
}
