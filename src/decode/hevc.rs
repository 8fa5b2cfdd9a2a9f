//! HEVC, decoded by heifer.

use heifer_hevc_dec::decoder::{DecodeOptions, decode_picture};
use heifer_hevc_dec::nal::{NalHeader, split_annex_b};

use super::yuv::{Color, Plane, Planes};

/// Slices of any picture.
const MIN_SLICES: u64 = 8;
/// Pixels of all slices together, if there are more than [`MIN_SLICES`] and each is as large as the
/// picture: some seconds, during which the call can't be interrupted.
const MAX_SLICE_PIXELS: u64 = 3_000_000_000;

/// Decodes a picture, a stream of NAL units with start codes, of at most `max_pixels` pixels.
pub(super) fn decode(stream: &[u8], max_pixels: u64) -> Result<Planes, String> {
    let slices = split_annex_b(stream)
        .filter(|unit| NalHeader::parse(unit).is_ok_and(|header| header.unit_type.is_slice()))
        .count() as u64;
    if slices > MIN_SLICES && slices.saturating_mul(max_pixels) > MAX_SLICE_PIXELS {
        return Err(format!("{slices} slices"));
    }
    let options = DecodeOptions {
        max_pixels,
        ..DecodeOptions::default()
    };
    let frame = decode_picture(stream, options).map_err(|error| error.to_string())?;
    let [luma, chroma] = frame.bit_depth;
    if frame.chroma_format != 0 && luma != chroma {
        return Err(format!("luma of {luma} bits, chroma of {chroma} bits"));
    }
    let [y, cb, cr] = frame.planes;
    let plane = |samples, component: usize| Plane {
        samples,
        width: frame.widths[component] as usize,
        height: frame.heights[component] as usize,
    };
    Ok(Planes {
        luma: plane(y, 0),
        chroma: (frame.chroma_format != 0).then(|| [plane(cb, 1), plane(cr, 2)]),
        depth: luma.into(),
        color: Color {
            matrix: frame.matrix_coeffs.into(),
            full_range: frame.full_range,
        },
    })
}
