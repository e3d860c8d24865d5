"""Loads whole datasets for partitioning: built-in ones, the Hugging Face Hub's and local files."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flops_fl.data.folder import DATASET, load_folder
from flops_fl.errors import DataError, UsageError
from flops_fl.extras import install
from flops_fl.text import first_line
from flops_fl.types import Array

CHOICES = "digits, breast-cancer, fashion-mnist[:train|:test], hf:NAME[:CONFIG[:SPLIT]], or a path"

# The folder of Debian's package dataset-fashion-mnist: https://arxiv.org/abs/1708.07747
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FASHION_MNIST_FILES = {"train": "train", "test": "t10k"}


def load_source(source: str, *, resize: int | None = None) -> Any:
    """Load a dataset by name or path as a `datasets.Dataset` with eager columns.

    Args:
        source: ``digits``, ``breast-cancer``, ``fashion-mnist``, ``fashion-mnist:test``,
            ``hf:NAME``, ``hf:NAME:CONFIG``, ``hf:NAME:CONFIG:SPLIT`` (CONFIG may be empty; SPLIT
            is ``train`` by default), or a path that `load_folder` takes.
        resize: Make every image this many pixels wide and high (bilinear).

    Raises:
        UsageError: There is no such source, or a package of the ``data`` extra is missing.
        DataError: The source exists, but its data cannot be loaded.
    """
    if resize is not None and resize < 1:
        raise UsageError(f"--resize {resize}: expected at least 1 pixel")
    dataset = _load(source)
    return dataset if resize is None else _resized(dataset, resize)


def path_of(source: str) -> Path | None:
    """The file or folder that a source is; None if it is a known name, or nothing is there."""
    if not source or DATASET.fullmatch(source):
        return None
    return path if (path := Path(source)).exists() else None


def require_source(source: str) -> None:
    """Check that there is such a source, before anything is loaded.

    Raises:
        UsageError: there is none.
    """
    name, _, rest = source.partition(":")
    if source in ("digits", "breast-cancer") or name == "fashion-mnist" or (name == "hf" and rest):
        return
    if not path_of(source):
        raise UsageError(f"no data source '{source}': expected {CHOICES} (which must exist)")


def _load(source: str) -> Any:
    require_source(source)
    name, _, rest = source.partition(":")
    if source == "digits":
        return _digits()
    if source == "breast-cancer":
        return _breast_cancer()
    if name == "fashion-mnist":
        return _fashion_mnist(rest or "train")
    if name == "hf" and rest:
        return _hub(rest)
    return load_folder(Path(source))


def _digits() -> Any:
    """Load 1797 scans of 8 x 8 pixels, 10 classes: https://doi.org/10.24432/C50P49."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _extra_missing("scikit-learn") from error
    digits = load_digits()
    # scikit-learn's grey values are from 0 to 16: the number of inked pixels in a 4 x 4 block.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return _image_dataset(images, digits.target, [str(digit) for digit in range(10)], "digits")


def _breast_cancer() -> Any:
    """Load 569 rows of 30 measurements of cells, 2 classes: https://doi.org/10.24432/C5DW2B."""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError as error:
        raise _extra_missing("scikit-learn") from error
    import datasets
    import pyarrow as pa

    from flops_fl.data.dataset import wrap

    cancer = load_breast_cancer()
    columns = dict(zip(map(str, cancer.feature_names), cancer.data.T, strict=True))
    kinds = {name: datasets.Value("float64") for name in columns}
    label = datasets.ClassLabel(names=[str(name) for name in cancer.target_names])
    schema = datasets.Features({**kinds, "label": label}).arrow_schema
    table = pa.table({**columns, "label": cancer.target.astype(np.int64)}, schema=schema)
    return wrap(datasets.Dataset(table, fingerprint="breast-cancer"))


def _fashion_mnist(split: str) -> Any:
    """Load 60,000 (train) or 10,000 (test) images of 28 x 28 pixels, 10 classes."""
    if split not in _FASHION_MNIST_FILES:
        raise UsageError(f"fashion-mnist has no split '{split}': expected train or test")
    stem = _FASHION_MNIST_FILES[split]
    images = _read_idx(FASHION_MNIST / f"{stem}-images-idx3-ubyte.gz")
    labels = _read_idx(FASHION_MNIST / f"{stem}-labels-idx1-ubyte.gz")
    return _image_dataset(images, labels, FASHION_MNIST_CLASSES, f"fashion-mnist-{split}")


def _read_idx(file: Path) -> Array:
    """Read a gzipped IDX file of unsigned bytes: http://yann.lecun.com/exdb/mnist."""
    if not file.is_file():
        raise DataError(
            f"fashion-mnist is not installed ({file} is missing): "
            "apt-get install dataset-fashion-mnist"
        )
    try:
        content = gzip.decompress(file.read_bytes())
        dimensions = content[3]  # after two zeros and the type code of unsigned bytes
        shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(
            f"{file} is not an IDX file ({error}): apt-get install --reinstall "
            "dataset-fashion-mnist"
        ) from error


def _hub(rest: str) -> Any:
    import datasets

    from flops_fl.data.dataset import wrap

    # Split at two colons at most, since a split may contain one: train[:100].
    name, config, split = [*rest.split(":", 2), "", ""][:3]
    split = split or "train"
    try:
        dataset = datasets.load_dataset(name, config or None, split=split)
    except Exception as error:  # network, Hub and file readers have no common base class
        reason = first_line(error)
        raise DataError(
            f"cannot load 'hf:{rest}', split '{split}', from the Hugging Face Hub ({reason}): "
            "check the name and the network, or give the path of a Parquet file"
        ) from error
    return wrap(dataset)


def _image_dataset(images: Array, labels: Array, classes: Any, fingerprint: str) -> Any:
    import datasets
    import pyarrow as pa

    from flops_fl.data.dataset import wrap

    encode = _png_encoder()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))}
    )
    schema = features.arrow_schema
    encoded = [{"bytes": encode(image), "path": None} for image in images]
    columns = [
        pa.array(encoded, schema.field("image").type),
        pa.array(labels.astype(np.int64)),
    ]
    # Given a fingerprint, `datasets` does not hash every image to make one.
    return wrap(datasets.Dataset(pa.table(columns, schema=schema), fingerprint=fingerprint))


def _png_encoder() -> Callable[[Array], bytes]:
    try:
        from PIL import Image
    except ImportError as error:
        raise _extra_missing("Pillow") from error
    return lambda array: _png(Image.fromarray(array))


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _resized(dataset: Any, size: int) -> Any:
    import datasets

    try:
        from PIL import Image
    except ImportError as error:
        raise _extra_missing("Pillow") from error
    names = [n for n, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
    if not names:
        raise UsageError(
            f"--resize {size} needs a column of images: there are {', '.join(dataset.features)}"
        )

    def resize(image: Any) -> Any:
        if image is None:
            return None
        # Palette and one-bit images cannot be interpolated.
        mode = {"P": "RGB", "1": "L"}.get(image.mode, image.mode)
        small = image.convert(mode).resize((size, size), Image.Resampling.BILINEAR)
        return {"bytes": _png(small), "path": None}

    def resize_batch(batch: dict[str, Any]) -> dict[str, Any]:
        return {name: [resize(image) for image in batch[name]] for name in names}

    return dataset.with_format(None).map(
        resize_batch,
        batched=True,
        features=dataset.features,
        keep_in_memory=True,  # write no file into a cache folder
        new_fingerprint=f"resize-{size}",
    )


def _extra_missing(package: str) -> UsageError:
    return UsageError(f"this needs {package}: {install('data')}")
