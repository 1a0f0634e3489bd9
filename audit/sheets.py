"""Contact sheets: the same attack's images of every subject, one row each, a column a class."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audit.attacks import AttackImages
from audit.inputs import AuditData
from compiler.ir.geometry import Array
from compiler.store import write_bytes

if TYPE_CHECKING:
    from PIL import Image

ROWS_EACH = 2
"""Images of a class shown of every subject."""

MOST_CLASSES = 20
_SHARE_CUT = 0.01
"""Of an image's darkest and of its brightest values, so much may be lost in stretching."""

_CELL = 64
_GAP = 4
_LEFT = 96
_TOP = 22
_BACK, _INK, _SOFT = (246, 245, 242), (29, 36, 48), (92, 102, 117)


def contact_sheet(
    rows: Mapping[str, tuple[Array, Array]], class_names: Sequence[str], title: str
) -> bytes:
    """A PNG; rows: name -> (images (N, C, H, W) in [0, 1], labels), from the top.

    Each image is shown as it is, 0 black and 1 white, the first ROWS_EACH of each class.
    """
    from PIL import Image, ImageDraw

    shown = min(len(class_names), MOST_CLASSES)
    first = next(iter(rows.values()))[0]
    zoom = max(1, round(_CELL / max(first.shape[2:])))
    height, width = zoom * first.shape[2] + _GAP, zoom * first.shape[3] + _GAP
    size = (_LEFT + shown * width + _GAP, 2 * _TOP + len(rows) * (ROWS_EACH * height + 2 * _GAP))
    sheet = Image.new("RGB", size, _BACK)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 5), title, fill=_INK)
    for label in range(shown):
        place = (_LEFT + label * width, _TOP + 4)
        draw.text(place, class_names[label][: max(2, width // 7)], fill=_SOFT)
    top = 2 * _TOP
    for name, (images, labels) in rows.items():
        draw.text((_GAP, top + 2), name, fill=_INK)
        for label in range(shown):
            for i, image in enumerate(images[labels == label][:ROWS_EACH]):
                sheet.paste(_picture(image, zoom), (_LEFT + label * width, top + i * height))
        top += ROWS_EACH * height + 2 * _GAP
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    return file.getvalue()


def write_sheets(
    folder: Path, images: Mapping[str, Mapping[str, AttackImages]], data: AuditData
) -> list[str]:
    """Write ATTACK.png for every attack into `folder`; return the names.

    images: subject -> attack -> images. Real test images stand on top, as they are; the others
    have their contrast stretched, since what is recognised by eye is often faint.
    """
    names = []
    for attack in next(iter(images.values())):
        rows = {"real": (data.test.images_nchw, data.test.labels)}
        for subject, by_attack in images.items():
            made = by_attack[attack]
            rows[subject] = (stretched(made.images_nchw), made.labels_n)
        content = contact_sheet(rows, data.class_names, f"attack: {attack}, contrast stretched")
        names.append(f"{attack}.png")
        write_bytes(folder / names[-1], content)
    return names


def stretched(images_nchw: Array) -> Array:
    """Each image from its darkest to its brightest value, over all channels; flat ones stay."""
    values = images_nchw.reshape(len(images_nchw), -1)
    low, high = np.quantile(values, (_SHARE_CUT, 1 - _SHARE_CUT), axis=1)
    span = np.where(high > low, high - low, 1.0)
    start = np.where(high > low, low, 0.0)
    shown: Array = np.clip((values - start[:, None]) / span[:, None], 0, 1)
    return shown.reshape(images_nchw.shape)


def _picture(image_chw: Array, zoom: int) -> Image.Image:
    from PIL import Image

    pixels = np.rint(255 * np.clip(image_chw, 0, 1)).astype(np.uint8)
    grey = pixels.shape[0] == 1
    picture = Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0)).convert("RGB")
    return picture.resize((zoom * picture.width, zoom * picture.height), Image.Resampling.NEAREST)
