//! HEIC and AVIF: the container, its tiles and its transformations.
//!
//! The references are pillow-heif and Pillow's AVIF plugin. In a HEIC file the container says how
//! the picture is turned, and readers turn it. Pillow reports the same properties of an AVIF file as
//! an EXIF orientation.

use std::borrow::Cow;

use heifer_isobmff::boxes::{ColorInfo, Property};
use heifer_isobmff::{BoxIter, Error, HeifFile, ItemId};
use image::metadata::Orientation;

use super::yuv::{Color, Plane, Planes, Reference};
use super::{DecodeOptions, Format, Picture, allocate, av1, turn_into};
use crate::ImageError;
use crate::resize::{CHANNELS, Size};

/// Bytes of the box that lists the items, and of the box that describes them: parsing takes time in
/// proportion to the product. A photo of 200 megapixels in tiles needs 24 kB of the first.
const MAX_ITEM_LIST: usize = 64 << 10;
const MAX_META: usize = 4 << 20;
/// Bytes of all tiles together, beyond those of the file: tiles may share their data.
const MAX_SHARED: usize = 16 << 20;
/// Cropping, turning and mirroring of one image.
const MAX_TRANSFORMS: usize = 8;
/// Memory for a pixel of a coded picture, in any of its forms: 9 bytes were measured for 4:2:0.
const BYTES_PER_PIXEL: u64 = 12;
/// A coded picture, of which the image is a part, may be wider and higher by this: it consists of
/// blocks of up to 64 pixels.
const MAX_PADDING: u64 = 64;

/// Decodes an image into RGB8 `pixels`; `scratch` receives the pixels before they are turned.
pub(super) fn decode_into(
    format: Format,
    bytes: &[u8],
    options: &DecodeOptions,
    scratch: &mut Vec<u8>,
    pixels: &mut Vec<u8>,
) -> Result<Picture, ImageError> {
    let bytes = boxes(bytes);
    let file = File::parse(format, &bytes, options)?;
    let id = file.heif.primary_id;
    let (mut size, planes, warning) = file.picture(id)?;
    allocate(pixels, size.bytes(), size)?;
    let reference = match format {
        Format::Avif => Reference::Libavif,
        _ => Reference::Libheif,
    };
    let transforms = file.transforms()?;
    let turns = transforms.iter().filter_map(|transform| match transform {
        Transform::Turn(orientation) => Some(*orientation),
        Transform::Crop { .. } => None,
    });
    let orientation = turns.fold(Orientation::NoTransforms, then);
    let smooth = moves_chroma(&transforms, size);
    if !planes.write_rgb(reference, smooth, size, pixels) {
        let detail = format!("colour matrix {}", planes.color.matrix);
        return Err(format.unsupported(detail));
    }
    drop(planes);
    if format == Format::Avif {
        // libavif divides premultiplied colours by their alpha; libheif leaves them.
        if let [alpha, ..] = file.heif.referenced_items(id, b"prem") {
            allocate(scratch, size.bytes(), size)?;
            file.write_alpha(*alpha, size, scratch)?;
            unmultiply(pixels, scratch);
        }
        return Ok(Picture {
            size,
            orientation,
            warning,
        });
    }
    for transform in transforms {
        std::mem::swap(pixels, scratch);
        match transform {
            Transform::Turn(orientation) => {
                allocate(pixels, size.bytes(), size)?;
                size = turn_into(scratch, size, orientation, pixels);
            }
            Transform::Crop(aperture) => {
                let (left, top, cropped) = aperture
                    .within(size)
                    .ok_or_else(|| file.format.damaged("a clean aperture outside of the image"))?;
                allocate(pixels, cropped.bytes(), cropped)?;
                let rows = scratch.chunks_exact(size.width * CHANNELS).skip(top);
                for (to, from) in pixels.chunks_exact_mut(cropped.width * CHANNELS).zip(rows) {
                    let start = left * CHANNELS;
                    to.copy_from_slice(&from[start..start + cropped.width * CHANNELS]);
                }
                size = cropped;
            }
        }
    }
    Ok(Picture {
        size,
        orientation: Orientation::NoTransforms,
        warning,
    })
}

struct File<'a> {
    format: Format,
    options: &'a DecodeOptions,
    heif: HeifFile<'a>,
    bytes: &'a [u8],
}

enum Transform {
    Turn(Orientation),
    Crop(Aperture),
}

/// A clean aperture: its size, and the offset of its centre from the centre of the image.
struct Aperture {
    width: f64,
    height: f64,
    right: f64,
    down: f64,
}

impl<'a> File<'a> {
    fn parse(
        format: Format,
        bytes: &'a [u8],
        options: &'a DecodeOptions,
    ) -> Result<Self, ImageError> {
        let failure = |error| failure(format, error);
        let meta = child(bytes, b"meta").and_then(|meta| meta.get(4..));
        let meta = meta.ok_or_else(|| format.truncated("no meta box"))?;
        let items = child(meta, b"iinf").map_or(0, <[u8]>::len);
        if meta.len() > MAX_META || items > MAX_ITEM_LIST {
            return Err(format.unsupported("too many items"));
        }
        let heif = HeifFile::parse(bytes).map_err(failure)?;
        // The references refuse a file that lacks its metadata.
        for item in &heif.items {
            if matches!(&item.item_type.0, b"Exif" | b"mime") {
                heif.item_data(item.id).map_err(failure)?;
            }
        }
        Ok(Self {
            format,
            options,
            heif,
            bytes,
        })
    }

    /// The size and the planes of an image, and a warning.
    fn picture(&self, id: ItemId) -> Result<(Size, Planes, Option<String>), ImageError> {
        if &self.kind(id)? != b"grid" {
            let (size, planes) = self.coded(id)?;
            return Ok((size, planes, None));
        }
        let grid = self.heif.grid(id).map_err(|error| self.failure(error))?;
        let size = (self.options).size(self.format, grid.output_width, grid.output_height)?;
        let tiles = self.heif.referenced_items(id, b"dimg");
        let (rows, columns) = (usize::from(grid.rows), usize::from(grid.columns));
        let [first, ..] = tiles else {
            return Err(self.format.damaged("a grid without tiles"));
        };
        let tile = self.announced(*first)?;
        let covered =
            |tiles: usize, tile: usize, all: usize| tiles * tile >= all && (tiles - 1) * tile < all;
        if tiles.len() != rows * columns
            || !covered(columns, tile.width, size.width)
            || !covered(rows, tile.height, size.height)
        {
            let detail = format!(
                "{} tiles of {} x {} for {rows} x {columns} in {} x {} pixels",
                tiles.len(),
                tile.width,
                tile.height,
                size.width,
                size.height
            );
            return Err(self.format.damaged(detail));
        }
        let mut canvas = Planes::default();
        let mut unread = self.bytes.len() + MAX_SHARED;
        let mut missing = 0;
        for (at, &id) in tiles.iter().enumerate() {
            let length = match self.data(id) {
                // As libheif, which leaves the tile out.
                Err(ImageError::Truncated { .. }) if at > 0 && self.format == Format::Heic => {
                    missing += 1;
                    continue;
                }
                data => data?.len(),
            };
            unread = unread
                .checked_sub(length)
                .ok_or_else(|| self.format.damaged("tiles that share their data"))?;
            let (_, planes) = self.coded(id)?;
            if at == 0 {
                canvas = planes.canvas(size);
            }
            if !canvas.paste(
                &planes,
                at % columns * tile.width,
                at / columns * tile.height,
            ) {
                return Err(self.format.damaged("tiles of different kinds"));
            }
        }
        let warning = (missing > 0).then(|| {
            let tiles = tiles.len();
            format!("the file is cut short: {missing} of {tiles} tiles of the image are missing")
        });
        canvas.color = self.color(id)?.unwrap_or(canvas.color);
        Ok((size, canvas, warning))
    }

    /// Writes an alpha plane for an image of this size as grey RGB8.
    fn write_alpha(&self, id: ItemId, size: Size, pixels: &mut [u8]) -> Result<(), ImageError> {
        let (alpha_size, mut planes, _) = self.picture(id)?;
        if alpha_size != size {
            return Err(self.format.damaged("an alpha plane of another size"));
        }
        planes.chroma = None;
        planes.write_rgb(Reference::Libavif, false, size, pixels);
        Ok(())
    }

    /// The size and the planes of a coded image.
    fn coded(&self, id: ItemId) -> Result<(Size, Planes), ImageError> {
        let size = self.announced(id)?;
        let (width, height) = (size.width as u64, size.height as u64);
        // The decoders would abort the process.
        let needed = usize::try_from(width * height * BYTES_PER_PIXEL).unwrap_or(usize::MAX);
        if Vec::<u8>::new().try_reserve_exact(needed).is_err() {
            return Err(ImageError::OutOfMemory {
                width: width as u32,
                height: height as u32,
            });
        }
        let planes = match &self.kind(id)? {
            b"av01" => {
                let data = self.data(id)?.into_owned();
                let max_pixels = self.options.max_pixels;
                let planes = av1::decode(data, width * height, max_pixels);
                // libavif would scale it.
                planes.and_then(|planes| match planes.luma {
                    Plane { width, height, .. } if (width, height) != (size.width, size.height) => {
                        Err(format!("a picture of {width} x {height} pixels"))
                    }
                    _ => Ok(planes),
                })
            }
            b"hvc1" | b"hev1" => self.hevc(id, (width + MAX_PADDING) * (height + MAX_PADDING))?,
            other => {
                let detail = format!("an image of type {}", other.escape_ascii());
                return Err(self.format.unsupported(detail));
            }
        };
        let mut planes = planes.map_err(|detail| self.format.damaged(detail))?;
        planes.color = self.color(id)?.unwrap_or(planes.color);
        if planes.luma.width < size.width || planes.luma.height < size.height {
            let (width, height) = (planes.luma.width, planes.luma.height);
            let detail = format!("a picture of only {width} x {height} pixels");
            return Err(self.format.damaged(detail));
        }
        Ok((size, planes))
    }

    #[cfg(feature = "heic")]
    fn hevc(&self, id: ItemId, max_pixels: u64) -> Result<Result<Planes, String>, ImageError> {
        let stream = self.heif.hevc_bitstream(id);
        let stream = stream.map_err(|error| self.failure(error))?;
        Ok(super::hevc::decode(&stream, max_pixels))
    }

    #[cfg(not(feature = "heic"))]
    fn hevc(&self, _: ItemId, _: u64) -> Result<Result<Planes, String>, ImageError> {
        Err(self.format.unsupported("this build has no HEIC decoder"))
    }

    /// The size that a coded image announces, if it is within the limits.
    fn announced(&self, id: ItemId) -> Result<Size, ImageError> {
        let size = self.heif.image_size(id);
        let (width, height) = size
            .map_err(|error| self.failure(error))?
            .ok_or_else(|| self.format.damaged("an image without a size"))?;
        self.options.size(self.format, width, height)
    }

    fn kind(&self, id: ItemId) -> Result<[u8; 4], ImageError> {
        let item = self.heif.item(id).map_err(|error| self.failure(error))?;
        Ok(item.item_type.0)
    }

    fn data(&self, id: ItemId) -> Result<Cow<'a, [u8]>, ImageError> {
        let data = self.heif.item_data(id);
        data.map_err(|error| self.failure(error))
    }

    fn properties(&self, id: ItemId) -> Result<impl Iterator<Item = &Property>, ImageError> {
        let properties = self.heif.item_properties(id);
        properties.map_err(|error| self.failure(error))
    }

    /// The colour that the container announces, which goes before that of the coded picture.
    fn color(&self, id: ItemId) -> Result<Option<Color>, ImageError> {
        Ok(self.properties(id)?.find_map(|property| match *property {
            Property::Color(ColorInfo::Nclx {
                matrix, full_range, ..
            }) => Some(Color { matrix, full_range }),
            _ => None,
        }))
    }

    /// The transformations of the primary image, first to last.
    fn transforms(&self) -> Result<Vec<Transform>, ImageError> {
        let transform = |property: &Property| {
            Some(match *property {
                Property::Rotation(1) => Transform::Turn(Orientation::Rotate270),
                Property::Rotation(2) => Transform::Turn(Orientation::Rotate180),
                Property::Rotation(3) => Transform::Turn(Orientation::Rotate90),
                Property::Mirror(true) => Transform::Turn(Orientation::FlipVertical),
                Property::Mirror(false) => Transform::Turn(Orientation::FlipHorizontal),
                Property::CleanAperture {
                    width,
                    height,
                    horiz_offset,
                    vert_offset,
                } => {
                    let share = |(up, down): (u32, u32)| f64::from(up) / f64::from(down);
                    let signed = |(up, down): (i32, u32)| f64::from(up) / f64::from(down);
                    Transform::Crop(Aperture {
                        width: share(width),
                        height: share(height),
                        right: signed(horiz_offset),
                        down: signed(vert_offset),
                    })
                }
                _ => return None,
            })
        };
        let transforms = self.properties(self.heif.primary_id)?.filter_map(transform);
        let transforms: Vec<_> = transforms.take(MAX_TRANSFORMS + 1).collect();
        if transforms.len() > MAX_TRANSFORMS {
            return Err(self.format.damaged("too many transformations"));
        }
        Ok(transforms)
    }

    fn failure(&self, error: Error) -> ImageError {
        failure(self.format, error)
    }
}

impl Aperture {
    /// The left and top of the aperture in an image, and its size.
    fn within(&self, size: Size) -> Option<(usize, usize, Size)> {
        let side = |length: f64, offset: f64, all: usize| {
            let start = (offset + (all as f64 - length) / 2.0).round();
            let inside = length >= 1.0 && start >= 0.0 && start + length.round() <= all as f64;
            inside.then_some((start as usize, length.round() as usize))
        };
        let (left, width) = side(self.width, self.right, size.width)?;
        let (top, height) = side(self.height, self.down, size.height)?;
        Some((left, top, Size { width, height }))
    }
}

/// Divides colours by their alpha, with which they were multiplied.
fn unmultiply(pixels: &mut [u8], alpha: &[u8]) {
    let max = u32::from(u8::MAX);
    for (sample, &alpha) in pixels.iter_mut().zip(alpha) {
        let alpha = u32::from(alpha);
        let quotient = (u32::from(*sample) * max + alpha / 2).checked_div(alpha);
        *sample = quotient.unwrap_or(0).min(max) as u8;
    }
}

/// The part of the bytes that consists of complete boxes: other bytes may follow the image's. A media
/// data box that is cut short counts, up to the end of the file.
fn boxes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let complete = BoxIter::new(bytes).map_while(Result::ok);
    let end = complete
        .map(|part| part.offset + part.header.header_size as usize + part.content.len())
        .last()
        .unwrap_or(0);
    if bytes.get(end + 4..end + 8) != Some(b"mdat") {
        return Cow::Borrowed(&bytes[..end]);
    }
    let mut bytes = bytes.to_vec();
    // The size of a box that extends to the end.
    bytes[end..end + 4].fill(0);
    Cow::Owned(bytes)
}

/// The content of the first box of a type.
fn child<'a>(boxes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let mut complete = BoxIter::new(boxes).map_while(Result::ok);
    let found = complete.find(|found| found.header.box_type.0 == *kind)?;
    Some(found.content)
}

/// Whether one of the transformations turns an odd number of pixels round. libheif turns the planes,
/// and widens those of chroma first if their samples would then lie between pixels.
fn moves_chroma(transforms: &[Transform], mut size: Size) -> bool {
    transforms.iter().any(|transform| match transform {
        Transform::Crop(aperture) => {
            size = aperture
                .within(size)
                .map_or(size, |(_, _, cropped)| cropped);
            false
        }
        Transform::Turn(turn) => {
            let Size { width, height } = size;
            let reversed = match turn {
                Orientation::FlipHorizontal => width,
                Orientation::FlipVertical => height,
                Orientation::Rotate180 => width | height,
                quarter => {
                    size = Size {
                        width: height,
                        height: width,
                    };
                    if *quarter == Orientation::Rotate90 {
                        height
                    } else {
                        width
                    }
                }
            };
            !reversed.is_multiple_of(2)
        }
    })
}

/// The orientation that is one after another.
fn then(first: Orientation, second: Orientation) -> Orientation {
    // A flip from left to right, then quarter turns clockwise.
    const TURNED: [[Orientation; 4]; 2] = [
        [
            Orientation::NoTransforms,
            Orientation::Rotate90,
            Orientation::Rotate180,
            Orientation::Rotate270,
        ],
        [
            Orientation::FlipHorizontal,
            Orientation::Rotate270FlipH,
            Orientation::FlipVertical,
            Orientation::Rotate90FlipH,
        ],
    ];
    let parts = |orientation: Orientation| {
        let at = TURNED
            .as_flattened()
            .iter()
            .position(|&other| other == orientation);
        at.map_or((0, 0), |at| (at / 4, at % 4))
    };
    let ((flip, turns), (flip2, turns2)) = (parts(first), parts(second));
    let turns = if flip2 == 1 { 4 - turns } else { turns };
    TURNED[flip ^ flip2][(turns + turns2) % 4]
}

fn failure(format: Format, error: Error) -> ImageError {
    match error {
        Error::UnexpectedEof => format.truncated(error.to_string()),
        Error::Unimplemented(_) => format.unsupported(error.to_string()),
        error => format.damaged(error),
    }
}
