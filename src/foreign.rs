//! Names the contents of a file that is not in a format that can be decoded.

use memchr::memmem;

/// Bytes in which the root element of an XML file is looked for.
const XML_HEAD: usize = 1024;

/// Marks of file formats: where they are, what they are, and the name of the format. The first mark
/// that matches counts.
const MARKS: &[(usize, &[u8], &str)] = &[
    (0, b"\xFF\x0A", "JPEG XL"),
    (0, b"\0\0\0\x0CJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\0\0\0\x0CjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xFF\x4F\xFF\x51", "JPEG 2000"),
    (4, b"ftypcrx ", "a Canon RAW photo (CR3)"),
    (0, b"FUJIFILMCCD-RAW", "a Fujifilm RAW photo (RAF)"),
    (0, b"IIRO", "an Olympus RAW photo (ORF)"),
    (0, b"IIRS", "an Olympus RAW photo (ORF)"),
    (0, b"MMOR", "an Olympus RAW photo (ORF)"),
    (0, b"IIU\0", "a Panasonic RAW photo (RW2)"),
    (0, b"FOVb", "a Sigma RAW photo (X3F)"),
    (0, b"8BPS", "a Photoshop document (PSD)"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
    (
        0,
        b"\0\x05\x16\x07",
        "an AppleDouble file of macOS, which has no photo",
    ),
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (4, b"ftypisom", "an MP4 video"),
    (4, b"ftypiso2", "an MP4 video"),
    (4, b"ftypmp4", "an MP4 video"),
    (4, b"ftypavc1", "an MP4 video"),
    (4, b"ftypM4V", "an MP4 video"),
    (4, b"ftyp3gp", "a 3GP video"),
    (4, b"ftypqt  ", "a QuickTime video"),
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer; get the photo with `git lfs pull`",
    ),
];

const HTML: &str = "an HTML page; check how the file was downloaded";
const SVG: &str = "an SVG drawing";
const STORE_ERROR: &str = "an error message of an object store; check how the file was downloaded";

/// Elements that an XML or HTML file starts with, in lower case.
const ELEMENTS: &[(&[u8], &str)] = &[
    (b"<!doctype html", HTML),
    (b"<html", HTML),
    (b"<svg", SVG),
    (b"<error>", STORE_ERROR),
];

/// The name of the format of a file that no decoder takes, and the remedy if there is one.
pub(crate) fn recognized(bytes: &[u8]) -> Option<&'static str> {
    let marked = |(at, mark, _): &&(usize, &[u8], &str)| {
        bytes
            .get(*at..)
            .is_some_and(|bytes| bytes.starts_with(mark))
    };
    if let Some((.., name)) = MARKS.iter().find(marked) {
        return Some(name);
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Some("only zero bytes");
    }
    marked_up(bytes)
}

fn marked_up(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = text.trim_ascii_start();
    let head = text[..text.len().min(XML_HEAD)].to_ascii_lowercase();
    let first = ELEMENTS
        .iter()
        .find(|(element, _)| head.starts_with(element));
    if let Some((_, name)) = first {
        return Some(name);
    }
    if !head.starts_with(b"<?xml")
        && !head.starts_with(b"<!doctype svg")
        && !head.starts_with(b"<!--")
    {
        return None;
    }
    // The root element comes after a declaration, comments and a document type.
    let places = ELEMENTS
        .iter()
        .filter_map(|(element, name)| Some((memmem::find(&head, element)?, *name)));
    places
        .min()
        .map_or(Some("an XML document"), |(_, name)| Some(name))
}

/// Whether bytes are text: UTF-8 whose only control characters are white space.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| {
        text.chars()
            .all(|char| !char.is_control() || char.is_ascii_whitespace())
    })
}
