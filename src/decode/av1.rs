//! AV1, decoded by rav1d on the calling thread.

use std::cell::Cell;

use re_rav1d::pixel::{MatrixCoefficients, YUVRange};
use re_rav1d::{Error, Picture, PixelLayout, PlanarImageComponent as Component, Settings};

use super::yuv::{Color, Plane, Planes};

/// Pictures in one image item: more than its layers can be.
const MAX_FRAMES: usize = 8;

/// A picture of more pixels gets a decoder of its own: a decoder keeps memory in proportion to the
/// largest picture.
const MAX_KEPT: u64 = 16 << 20;

thread_local! {
    /// The decoder of a thread is kept from image to image: a closed one leaves its memory to glibc
    /// in pieces that the next can't always use, and after many the process has grown.
    static KEPT: Cell<Option<Decoder>> = const { Cell::new(None) };
}

struct Decoder {
    decoder: re_rav1d::Decoder,
    max_pixels: u64,
}

/// Decodes the first picture that is shown. Its container announces `pixels`, which are at most
/// `max_pixels`.
pub(super) fn decode(data: Vec<u8>, pixels: u64, max_pixels: u64) -> Result<Planes, String> {
    let frames = frames(&data).ok_or("a damaged OBU header")?;
    // The decoder would report empty data on stderr.
    if frames == 0 {
        return Err("no picture".to_owned());
    }
    if frames > MAX_FRAMES {
        return Err(format!("{frames} frames in one image"));
    }
    if pixels > MAX_KEPT {
        return Decoder::new(pixels)?.decode(data);
    }
    let max_pixels = max_pixels.min(MAX_KEPT);
    // After a panic it is not used again.
    let mut decoder = match KEPT.take() {
        Some(decoder) if decoder.max_pixels == max_pixels => decoder,
        _ => Decoder::new(max_pixels)?,
    };
    let planes = decoder.decode(data);
    // Forgets the image, its headers and reference frames included.
    decoder.decoder.flush();
    KEPT.set(Some(decoder));
    planes
}

impl Decoder {
    fn new(max_pixels: u64) -> Result<Self, String> {
        let mut settings = Settings::new();
        settings.set_n_threads(1);
        settings.set_max_frame_delay(1);
        settings.set_all_layers(false);
        settings.set_frame_size_limit(u32::try_from(max_pixels).unwrap_or(u32::MAX));
        let decoder = re_rav1d::Decoder::with_settings(&settings);
        Ok(Self {
            decoder: decoder.map_err(|error| error.to_string())?,
            max_pixels,
        })
    }

    fn decode(&mut self, data: Vec<u8>) -> Result<Planes, String> {
        match self.picture(data) {
            Ok(picture) => Ok(planes(&picture)),
            Err(Error::Again) => Err("no picture".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn picture(&mut self, data: Vec<u8>) -> Result<Picture, Error> {
        match self.decoder.send_data(data, None, None, None) {
            Ok(()) | Err(Error::Again) => {}
            Err(error) => return Err(error),
        }
        match self.decoder.get_picture() {
            // The data that the decoder had no room for.
            Err(Error::Again) => {
                match self.decoder.send_pending_data() {
                    Ok(()) | Err(Error::Again) => {}
                    Err(error) => return Err(error),
                }
                self.decoder.get_picture()
            }
            picture => picture,
        }
    }
}

/// A copy of a picture.
fn planes(picture: &Picture) -> Planes {
    let depth = picture.bit_depth() as u32;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let copy = |component, width, height| {
        let data = picture.plane(component);
        let stride = picture.stride(component) as usize;
        let mut plane = Plane::new(width, height);
        let rows = data.chunks(stride).zip(plane.samples.chunks_mut(width));
        for (from, to) in rows {
            if depth == 8 {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = from.into();
                }
            } else {
                for (to, &from) in to.iter_mut().zip(from.as_chunks().0) {
                    *to = u16::from_ne_bytes(from);
                }
            }
        }
        plane
    };
    let chroma = match picture.pixel_layout() {
        PixelLayout::I400 => None,
        PixelLayout::I420 => Some((width.div_ceil(2), height.div_ceil(2))),
        PixelLayout::I422 => Some((width.div_ceil(2), height)),
        PixelLayout::I444 => Some((width, height)),
    };
    Planes {
        luma: copy(Component::Y, width, height),
        chroma: chroma.map(|(width, height)| {
            [Component::U, Component::V].map(|component| copy(component, width, height))
        }),
        depth,
        color: announced(picture),
    }
}

fn announced(picture: &Picture) -> Color {
    Color {
        matrix: match picture.matrix_coefficients() {
            MatrixCoefficients::Identity => 0,
            MatrixCoefficients::BT709 => 1,
            MatrixCoefficients::Unspecified => 2,
            MatrixCoefficients::BT470M => 4,
            MatrixCoefficients::BT470BG => 5,
            MatrixCoefficients::ST240M => 7,
            MatrixCoefficients::BT2020NonConstantLuminance => 9,
            _ => u16::MAX,
        },
        full_range: picture.color_range() == YUVRange::Full,
    }
}

/// The number of frame headers among the OBUs, whose pictures may be large and never shown.
fn frames(mut data: &[u8]) -> Option<usize> {
    const FRAME_HEADER: u8 = 3;
    const FRAME: u8 = 6;
    let mut frames = 0;
    while let [header, rest @ ..] = data {
        let extension = usize::from(header >> 2 & 1);
        frames += usize::from(matches!(header >> 3 & 0xF, FRAME_HEADER | FRAME));
        data = rest.get(extension..)?;
        if header & 2 == 0 {
            // Without a size, an OBU extends to the end.
            break;
        }
        let mut size = 0;
        for at in 0.. {
            let [byte, rest @ ..] = data else { return None };
            data = rest;
            size |= u64::from(byte & 0x7F).checked_shl(7 * at)?;
            if byte & 0x80 == 0 {
                break;
            }
        }
        data = data.get(usize::try_from(size).ok()?..)?;
    }
    Some(frames)
}
