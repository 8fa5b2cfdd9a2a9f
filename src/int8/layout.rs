//! Where maps lie in their buffers.

use super::graph::Map;

/// The maps of some images, to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maps<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) layout: Layout,
}

/// The maps of `count` images, to be written.
#[derive(Debug)]
pub(super) struct MapsMut<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) layout: Layout,
    pub(super) count: usize,
}

/// Pixels around a map that a depthwise convolution reads: top, left, bottom, right.
pub(super) type Margin = [usize; 4];

/// Where the pixels of a map lie in a buffer, in bytes; images follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Bytes of a pixel.
    pub(super) channels: usize,
    /// From the start of the image to the first pixel.
    start: usize,
    /// From a pixel to that below.
    pub(super) stride: usize,
    /// Of an image, its margin included.
    pub(super) bytes: usize,
}

impl Layout {
    /// The margin is in rows and bytes, as maps with the same bytes may have different pixels.
    pub(super) fn new(map: &Map, [top, left, bottom, right]: Margin) -> Self {
        let Map {
            height,
            width,
            channels,
            bytes_of: _,
        } = *map;
        let stride = left + width * channels + right;
        Self {
            height,
            width,
            channels,
            start: top * stride + left,
            stride,
            bytes: (top + height + bottom) * stride,
        }
    }

    /// A map of as many pixels of another size, without a margin.
    pub(super) fn with_pixels(&self, channels: usize) -> Self {
        let map = Map {
            height: self.height,
            width: self.width,
            channels,
            bytes_of: 0,
        };
        Self::new(&map, [0; 4])
    }

    /// Where a pixel begins.
    pub(super) fn pixel(&self, image: usize, y: usize, x: usize) -> usize {
        image * self.bytes + self.start + y * self.stride + x * self.channels
    }

    /// Bytes of a row, without the margin.
    pub(super) fn row(&self) -> usize {
        self.width * self.channels
    }

    /// Sets the margins of all images in the buffer.
    pub(super) fn fill_margin(&self, buffer: &mut [u8], value: u8) {
        if self.bytes == self.height * self.row() {
            return;
        }
        for image in buffer.chunks_exact_mut(self.bytes) {
            let mut end = 0;
            for y in 0..self.height {
                let start = self.pixel(0, y, 0);
                image[end..start].fill(value);
                end = start + self.row();
            }
            image[end..].fill(value);
        }
    }
}
