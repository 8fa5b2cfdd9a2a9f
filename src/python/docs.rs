//! Written by `python/tools/extension_docs.py`: the docstrings of `python/pomona/_native.pyi`.

#[rustfmt::skip]
macro_rules! docstring {
(Featurizer) => { r#"Turns encoded images into feature vectors.

Nothing is started before the first batch: no thread, no session, no ONNX Runtime. Threads live
no longer than a call, so a process can fork between calls. Calls from several Python threads
take turns, and the GIL is released during a call. Ctrl-C ends a call between two images. A
pickled copy consists of the path of the model and the options.

Parameters
----------
model : str or path
    A pulled model's name or the path of a model file.
threads : int, default 1
    Threads that decode and run the model, each with its own session.
batch_size : int, default 2
    Images that go through the model at once.
apply_exif, strict, max_pixels, decode
    How images are decoded: the fields of `DecodeOptions`.
allow_trailing : bool, optional
    Deprecated and ignored: bytes after the end of an image are accepted.

Raises
------
ModelError
    If the model does not exist or breaks the model contract.
ValueError
    If an option has an invalid value."# };
(Featurizer.featurize) => { r#"Compute the features of encoded images.

Parameters
----------
images : iterable of bytes or None
    Encoded images: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF. Each may also be a
    bytearray, memoryview, BytesIO, binary scalar of pyarrow or one-dimensional array of
    uint8. None, NaN and ``pandas.NA`` stand for an image that is missing.
on_error : {"raise", "nan"}, default "raise"
    Whether the first image that can't be decoded raises, or each of them has a row of NaN.

Returns
-------
numpy.ndarray
    float32 of shape (n, dim), C order; a row per image.

Raises
------
ImageError
    With ``on_error="raise"``, for the first image that can't be decoded.
TypeError
    If something is not bytes; the message says what to pass instead.
ModelError
    If ONNX Runtime can't load or run the model.
OSError
    If ONNX Runtime can't be loaded, or the threads can't be started.
RuntimeError
    If the process was forked while another thread was in this method or was loading ONNX
    Runtime."# };
(Featurizer.try_featurize) => { r#"Compute the features of encoded images, with an error slot and notes for each.

Parameters
----------
images : iterable of bytes or None
    Encoded images: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF. Each may also be a
    bytearray, memoryview, BytesIO, binary scalar of pyarrow or one-dimensional array of
    uint8. None, NaN and ``pandas.NA`` stand for an image that is missing.

Returns
-------
FeaturizedBatch
    A pair: the features, float32 of shape (n, dim) in C order with a row of NaN where there
    is an error, and the errors, ImageError or None for each image. Its attributes
    ``warnings`` and ``orientations`` have a slot for each image too.

Raises
------
TypeError
    If something is not bytes; the message says what to pass instead.
ModelError
    If ONNX Runtime can't load or run the model.
OSError
    If ONNX Runtime can't be loaded, or the threads can't be started.
RuntimeError
    If the process was forked while another thread was in this method or was loading ONNX
    Runtime."# };
(Featurizer.dim) => { r#"The number of features of an image."# };
(Featurizer.image_size) => { r#"Height and width to which images are resized, in pixels."# };
(Featurizer.model_name) => { r#"The model's name, from its metadata."# };
(Featurizer.model_path) => { r#"The model file."# };
(Featurizer.metadata) => { r#"The model file's metadata."# };
(Featurizer.threads) => { r#"The number of threads of a call."# };
(PathFeaturizer) => { r#"Turns paths of photos into feature vectors, reading ahead.

Photos are read in the background: objects of S3 by one thread of the process, which waits for
all requests at once, and local files by up to eight more. They are featurized in the order in
which they arrive, and returned in the order of submission. Use it from one thread only. The
features are those of `Featurizer`, bit for bit.

Parameters
----------
featurizer : Featurizer
    Its threads compute while `next` runs.
concurrency : int, default 32
    Photos that are read at once; of local files, at most eight are.
max_bytes_in_flight : int, default 134217728
    Bytes of photos in memory, read or being read. A larger photo is read alone.
timeout : float, default 60.0
    Seconds that a store may take for a photo, including retries, plus one second for each
    100,000 bytes.
storage : mapping, default {}
    How each bucket is reached; the key ``""`` is for every bucket that has no entry. A mapping
    of ``endpoint`` (with its scheme; AWS's by default), ``region`` (AWS is asked by default),
    ``path_style`` (``"true"``), ``credentials`` (``"chain"``, ``"keys"``, ``"anonymous"``,
    ``"environment"`` or ``"instance"``), ``access_key``, ``secret_key`` and ``session_token``.

Raises
------
ValueError
    If an option has an invalid value.
OSError
    If the thread that reads can't be started.
RuntimeError
    If the process was forked while another thread was starting the thread that reads."# };
(PathFeaturizer.submit) => { r#"Start to read photos, as one submission.

Parameters
----------
paths : iterable of str, path or None
    ``s3://``, ``s3a://``, ``s3n://``, ``file:`` and plain paths, as in the ``path`` column
    of Spark's ``binaryFile``: every character stands for itself.

Raises
------
TypeError
    If something is not a path.
RuntimeError
    If the process was forked after this object was made."# };
(PathFeaturizer.next) => { r#"Compute the features of the oldest submission that has not been returned.

Returns
-------
FeaturizedBatch or None
    As of `Featurizer.try_featurize`, with one slot per path; None if there is no
    submission. An error whose `kind` is not ``"image"`` is not the fault of the photo, and
    another try may succeed.

An exception drops all submissions and aborts their reads; later ones are not affected.

Raises
------
OSError
    If a store can't be used at all: it can't be reached, it refuses the keys, the bucket
    does not exist, or it refused eight photos in a row. If threads can't be started.
ValueError
    If a path is neither of S3 nor of a local file.
ModelError
    If ONNX Runtime can't load or run the model.
RuntimeError
    If the process was forked after this object was made."# };
(list_folders) => { r#"List folders of S3, many at a time, without the contents of their subfolders.

Parameters
----------
folders : sequence of str
    ``s3://``, ``s3a://`` and ``s3n://`` paths, in which every character stands for itself. The
    path of a file lists that file.
concurrency : int, default 32
    Folders that are listed at once.
timeout : float, default 60.0
    Seconds that the store may take for an answer, including retries.
storage : mapping, default {}
    As for `PathFeaturizer`.

Returns
-------
list
    The files of each folder and the paths of its subfolders; None where nothing exists. A file
    is its path, its length in bytes and its modification time in milliseconds since 1970.

Raises
------
OSError
    If the store does not list a folder: it can't be reached, it refuses the keys, the bucket
    does not exist, or access is denied.
ValueError
    If a path is not of S3, if a folder has names that can't be requested (``a//b``), or if
    an option has an invalid value."# };
(load_image) => { r#"Decode an image as the models see it: like Pillow's ``convert("RGB")`` and bicubic resize.

Parameters
----------
image : bytes
    An encoded image: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF. It may also be a bytearray,
    memoryview, BytesIO, binary scalar of pyarrow or one-dimensional array of uint8.
size : tuple of int, optional
    Height and width to resize to, in pixels, up to 65,535 each. By default the image keeps its
    size.
apply_exif, strict, max_pixels, decode
    How the image is decoded: the fields of `DecodeOptions`. ``decode="fast"`` has an effect
    only together with `size`.
allow_trailing : bool, optional
    Deprecated and ignored: bytes after the end of the image are accepted.

Returns
-------
numpy.ndarray
    uint8 of shape (height, width, 3), RGB.

Raises
------
ImageError
    If the image can't be decoded.
TypeError
    If `image` is not bytes; the message says what to pass instead.
ValueError
    If an option has an invalid value."# };
(multiply_adds) => { r#"Do float32 multiply-adds as fast as the CPU can, and count them.

Divided by the CPU time that they took, they are the peak that no float32 model exceeds. Threads
that share a core share its arithmetic units.

Parameters
----------
threads : int
    Threads that compute at the same time.
seconds : float
    Wall-clock time.

Returns
-------
int
    The multiply-adds of all threads.

Raises
------
ValueError
    If an argument has an invalid value.
OSError
    If the threads can't be started."# };
(vectors) => { r#"Name the widest vectors of the CPU that :func:`multiply_adds` uses: AVX-512, AVX2, SSE2."# };
}
