//! Finds the end of an image in its bytes.
//!
//! Walking the container finds a photo that was cut short, or that has other bytes after its end,
//! before anything is decoded, at the cost of a scan for marker bytes.

use super::Format;
use crate::ImageError;
use crate::resize::CHANNELS;

/// The bytes that belong to the image.
pub(super) fn checked(format: Format, bytes: &[u8]) -> Result<&[u8], ImageError> {
    let truncated = |detail: &str| ImageError::Truncated {
        format,
        detail: detail.to_owned(),
    };
    let end = match format {
        // libjpeg finds the end.
        Format::Jpeg => bytes.len(),
        Format::Png => png(bytes).ok_or_else(|| truncated("no IEND chunk"))??,
        Format::WebP => {
            webp(bytes).ok_or_else(|| truncated("shorter than its RIFF header says"))?
        }
        Format::Gif => gif(bytes).ok_or_else(|| truncated("it ends before its trailer"))?,
        Format::Bmp => bmp(bytes),
        // The parts of these may be anywhere in the file.
        Format::Tiff | Format::Heic | Format::Avif => bytes.len(),
    };
    Ok(&bytes[..end])
}

/// PNG: after the IEND chunk.
fn png(bytes: &[u8]) -> Option<Result<usize, ImageError>> {
    const SIGNATURE: usize = 8;
    /// Length and type before a chunk's data, checksum after it.
    const FRAME: usize = 4 + 4 + 4;
    let mut at = SIGNATURE;
    loop {
        let length = u32::from_be_bytes(array(bytes, at)?) as usize;
        let kind: [u8; 4] = array(bytes, at + 4)?;
        at = at.checked_add(FRAME)?.checked_add(length)?;
        if at > bytes.len() {
            return None;
        }
        match &kind {
            b"IEND" => return Some(Ok(at)),
            // The decoder would panic on an incomplete colour.
            b"PLTE" if !length.is_multiple_of(CHANNELS) => {
                return Some(Err(ImageError::Unsupported {
                    format: Format::Png,
                    detail: format!("a palette of {length} bytes"),
                }));
            }
            _ => {}
        }
    }
}

/// WebP: the length in the RIFF header, rounded up to an even number of bytes.
fn webp(bytes: &[u8]) -> Option<usize> {
    const HEADER: usize = 8;
    let length = u32::from_le_bytes(array(bytes, 4)?) as usize;
    let end = HEADER + length.next_multiple_of(2);
    // Some encoders omit the last padding byte.
    if end <= bytes.len() {
        Some(end)
    } else {
        (HEADER + length == bytes.len()).then_some(end - 1)
    }
}

/// GIF: after the trailer. If it is missing, frames may be missing too: the file was cut.
fn gif(bytes: &[u8]) -> Option<usize> {
    const SCREEN: usize = 6 + 7;
    const TRAILER: u8 = 0x3B;
    const EXTENSION: u8 = 0x21;
    const IMAGE: u8 = 0x2C;
    const DESCRIPTOR: usize = 9;
    /// Offset of the flags of the global colour table.
    const SCREEN_FLAGS: usize = 10;
    let mut at = SCREEN + color_table(*bytes.get(SCREEN_FLAGS)?);
    let mut images = 0;
    loop {
        match bytes.get(at) {
            Some(&TRAILER) => return Some(at + 1),
            Some(&EXTENSION) => at = sub_blocks(bytes, at + 2)?,
            Some(&IMAGE) => {
                let flags = *bytes.get(at + DESCRIPTOR)?;
                // A byte with the size of the first codes precedes the data.
                let data = at + 1 + DESCRIPTOR + color_table(flags) + 1;
                at = sub_blocks(bytes, data)?;
                images += 1;
            }
            // Not a block: other bytes follow the image.
            Some(_) if images > 0 => return Some(at),
            _ => return None,
        }
    }
}

fn color_table(flags: u8) -> usize {
    const PRESENT: u8 = 0x80;
    const SIZE: u8 = 0x07;
    if flags & PRESENT == 0 {
        0
    } else {
        3 << ((flags & SIZE) + 1)
    }
}

fn sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

/// BMP: the length in its header if that is plausible, which some encoders do not ensure.
fn bmp(bytes: &[u8]) -> usize {
    const HEADERS: usize = 14 + 12;
    match array(bytes, 2).map(|length| u32::from_le_bytes(length) as usize) {
        Some(length) if (HEADERS..bytes.len()).contains(&length) => length,
        _ => bytes.len(),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
