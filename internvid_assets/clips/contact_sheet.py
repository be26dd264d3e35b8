"""Many small pictures on one sheet, for previews."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def contact_sheet(jpegs: Sequence[bytes], labels: Sequence[str] = (), columns: int = 6, width: int = 160) -> bytes:
    """A JPEG grid of the pictures, each fitted into `width` by 0.75 `width`, with an optional label below it.

    Raises: ValueError without pictures.
    """
    if not jpegs:
        raise ValueError("a contact sheet needs at least one picture")
    height = width * 3 // 4
    label_height = 14 if labels else 0
    rows = -(-len(jpegs) // columns)
    sheet = np.full((rows * (height + label_height), min(columns, len(jpegs)) * width, 3), 32, np.uint8)
    for number, jpeg in enumerate(jpegs):
        top, left = number // columns * (height + label_height), number % columns * width
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"picture {number} of the contact sheet is not a JPEG")
        scale = min((width - 2) / picture.shape[1], (height - 2) / picture.shape[0])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        y, x = top + (height - small.shape[0]) // 2, left + (width - small.shape[1]) // 2
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
        if labels:
            origin = (left + 2, top + height + label_height - 4)
            cv2.putText(sheet, labels[number][: width // 6], origin, cv2.FONT_HERSHEY_PLAIN, 0.7, (230, 230, 230), 1)
    return cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
