//! The image formats, by their first bytes.

use std::fmt;

/// The formats that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JPEG of any colour space, sequential or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// WebP, lossy or lossless; the first frame of an animation.
    WebP,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; the first image.
    Tiff,
    /// HEIF with a picture in HEVC, as phones write it; the primary image.
    Heic,
    /// HEIF with a picture in AV1; the primary image.
    Avif,
}

impl Format {
    /// The format that the first bytes announce.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'B', b'M', ..] => Some(Self::Bmp),
            // The second number marks files with offsets of 64 bits. Pillow also accepts 42 in the
            // other byte order.
            [b'I', b'I', 42 | 43, 0, ..]
            | [b'M', b'M', 0, 42 | 43, ..]
            | [b'I', b'I', 0, 42, ..]
            | [b'M', b'M', 42, 0, ..] => Some(Self::Tiff),
            _ if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => {
                Some(Self::WebP)
            }
            _ => heif(bytes),
        }
    }
}

/// HEIF, by the brands in its first box. A brand that names no codec says that images are HEIF.
fn heif(bytes: &[u8]) -> Option<Format> {
    const HEADER: usize = 16;
    let (length, kind) = (bytes.first_chunk()?, bytes.get(4..8)?);
    if kind != b"ftyp" {
        return None;
    }
    let end = bytes.len().min(u32::from_be_bytes(*length) as usize);
    let major = bytes.get(8..12)?;
    let (compatible, _) = bytes.get(HEADER..end).unwrap_or_default().as_chunks();
    let avif = compatible
        .iter()
        .any(|brand: &[u8; 4]| matches!(brand, b"avif" | b"avis"));
    match major {
        b"avif" | b"avis" => Some(Format::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => {
            Some(Format::Heic)
        }
        b"mif1" | b"msf1" => Some(if avif { Format::Avif } else { Format::Heic }),
        _ => None,
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Heic => "HEIC",
            Self::Avif => "AVIF",
        })
    }
}
