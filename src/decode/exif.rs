//! The orientation of a photo in its EXIF or XMP metadata, found as Pillow's `getexif` finds it.

use image::metadata::Orientation;
use memchr::memmem;

/// The EXIF orientation of a photo, and that of its XMP metadata if EXIF has none.
pub(super) fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let value = exif.and_then(in_exif).or_else(|| xmp.and_then(in_xmp));
    let value = value.and_then(|value| u8::try_from(value).ok());
    let orientation = value.and_then(Orientation::from_exif);
    orientation.unwrap_or(Orientation::NoTransforms)
}

/// The value of the orientation tag in the first directory of a TIFF header, which EXIF is.
fn in_exif(mut exif: &[u8]) -> Option<u32> {
    /// Belongs to a JPEG's segment; some encoders write it into other formats too.
    const PREFIX: &[u8] = b"Exif\0\0";
    const ORIENTATION: u16 = 0x0112;
    const ENTRY: usize = 12;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    while let Some(rest) = exif.strip_prefix(PREFIX) {
        exif = rest;
    }
    let little = match exif.first_chunk()? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk()?;
        let read = if little {
            u16::from_le_bytes
        } else {
            u16::from_be_bytes
        };
        Some(read(bytes))
    };
    let long = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk()?;
        let read = if little {
            u32::from_le_bytes
        } else {
            u32::from_be_bytes
        };
        Some(read(bytes))
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = directory.checked_add(2)?;
    let count = usize::from(short(directory)?);
    let mut entries = (entries..).step_by(ENTRY).take(count);
    let entry = entries.find(|&at| short(at).is_none_or(|tag| tag == ORIENTATION))?;
    if long(entry + 4)? != 1 {
        return None;
    }
    match short(entry + 2)? {
        SHORT => short(entry + 8).map(u32::from),
        LONG => long(entry + 8),
        _ => None,
    }
}

/// The digit after `tiff:Orientation="` or `tiff:Orientation>`.
fn in_xmp(xmp: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    memmem::find_iter(xmp, NAME).find_map(|at| match xmp[at + NAME.len()..] {
        [b'=', b'"', digit, ..] | [b'>', digit, ..] => char::from(digit).to_digit(10),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(little: bool, kind: u16, count: u32, value: u32) -> Vec<u8> {
        let short = |value: u16| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let long = |value: u32| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let value = if kind == 3 && !little {
            value << 16
        } else {
            value
        };
        let mut bytes = if little {
            b"II".to_vec()
        } else {
            b"MM".to_vec()
        };
        bytes.extend(short(42));
        bytes.extend(long(10));
        bytes.extend([0, 0]);
        bytes.extend(short(2));
        for (tag, kind, count, value) in [(0x10F, 2, 1, 0), (0x112, kind, count, value)] {
            bytes.extend([short(tag), short(kind)].concat());
            bytes.extend([long(count), long(value)].concat());
        }
        bytes
    }

    #[test]
    fn exif_of_either_byte_order_and_either_type_is_read() {
        for (little, kind) in [(true, 3), (false, 3), (true, 4), (false, 4)] {
            for value in 1..=8 {
                let found = orientation(Some(&exif(little, kind, 1, value)), None);
                assert_eq!(u32::from(found.to_exif()), value, "{little} {kind}");
            }
        }
    }

    #[test]
    fn other_values_and_damaged_exif_are_no_orientation() {
        for (kind, count, value) in [(3, 1, 0), (3, 1, 9), (4, 1, 1 << 20), (3, 2, 6), (2, 1, 6)] {
            let found = orientation(Some(&exif(true, kind, count, value)), None);
            assert_eq!(found, Orientation::NoTransforms, "{kind} {count} {value}");
        }
        let whole = exif(true, 3, 1, 6);
        for kept in 0..whole.len() - 2 {
            let found = orientation(Some(&whole[..kept]), None);
            assert_eq!(found, Orientation::NoTransforms, "{kept} bytes");
        }
    }

    #[test]
    fn xmp_counts_where_exif_has_no_orientation() {
        let attribute = br#"<rdf:Description tiff:Orientation="6"/>"#;
        let element = b"<tiff:Orientation>8</tiff:Orientation>";
        assert_eq!(orientation(None, Some(attribute)), Orientation::Rotate90);
        assert_eq!(orientation(None, Some(element)), Orientation::Rotate270);
        let exif = exif(false, 3, 1, 3);
        assert_eq!(
            orientation(Some(&exif), Some(attribute)),
            Orientation::Rotate180
        );
    }
}
