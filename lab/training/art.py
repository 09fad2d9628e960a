"""The twelve pictures the demo model learns, rendered from a pinned icon package.

The rendered PNGs (128x128 RGBA) are kept in ``lab/training/art`` so that training needs neither the network nor an
SVG renderer. Running this file makes them again from the registry:

    pip install resvg-py pillow && python lab/training/art.py

Source: Noto Emoji by Google Inc (Apache-2.0), as packaged in ``@iconify-json/noto`` 1.2.9.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import urllib.request
from pathlib import Path

URL = "https://registry.npmjs.org/@iconify-json/noto/-/noto-1.2.9.tgz"
SHA512 = "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="
FOLDER = Path(__file__).parent / "art"

#: noun of the caption -> icon of the package. The nouns are TIAM's, each one CLIP token.
ICONS = {
    "car": "automobile",
    "bird": "bird",
    "cat": "cat-face",
    "dog": "dog-face",
    "bear": "bear",
    "elephant": "elephant",
    "zebra": "zebra",
    "banana": "banana",
    "apple": "red-apple",
    "broccoli": "broccoli",
    "carrot": "carrot",
    "donut": "doughnut",
}


def load() -> dict:
    """Noun -> RGBA sprite (PIL image), in the fixed order of ``ICONS``."""
    from PIL import Image

    return {noun: Image.open(FOLDER / f"{noun}.png").convert("RGBA") for noun in ICONS}


def fingerprint() -> str:
    """SHA-256 over the sprites' pixels: two machines that print the same one train on the same art."""
    digest = hashlib.sha256()
    for noun, sprite in load().items():
        digest.update(noun.encode() + sprite.tobytes())
    return digest.hexdigest()


def render() -> None:
    """Download the package, check its hash, and write one PNG per noun."""
    import resvg_py
    from PIL import Image

    data = urllib.request.urlopen(URL).read()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise SystemExit(f"{URL}: the package is not the one this project was made from")
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        icons = json.load(package.extractfile("package/icons.json"))["icons"]
    FOLDER.mkdir(exist_ok=True)
    for noun, icon in ICONS.items():
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 128 128">{icons[icon]["body"]}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=128, height=128)
        Image.open(io.BytesIO(bytes(png))).convert("RGBA").save(FOLDER / f"{noun}.png", optimize=True)


if __name__ == "__main__":
    render()
    print(fingerprint())
