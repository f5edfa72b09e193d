"""Pictures as files and cameras hold them."""

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image | np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(colour: str | tuple[int, int, int] = "red", size_px: tuple[int, int] = (64, 48)) -> bytes:
    """Encode one colour, so well that it stays what it is."""
    return encoded(Image.new("RGB", size_px, colour), quality=90)
