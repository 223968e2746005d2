"""Copies of scans as people make them: cropped, mirrored, brightened, marked, compressed."""

import io

import numpy as np
from PIL import Image, ImageDraw


def save_again(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Do some of it to a grey scan; return the copy and what was done."""
    done = []
    steps = (_crop, 0.6), (_mirror, 0.4), (_resize, 0.6), (_brighten, 0.6), (_mark, 0.5)
    for step, share in (*steps, (_pad, 0.3), (_compress, 0.4)):
        if random.random() < share:
            image = np.ascontiguousarray(step(image, random))
            done.append(step.__name__.strip("_"))
    return image, done


def _crop(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """To 65 % or more of height and of width."""
    height, width = image.shape
    rows, columns = (int(random.uniform(0.65, 1) * side) for side in (height, width))
    top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
    return image[top : top + rows, left : left + columns]


def _mirror(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return image[:, ::-1]


def _resize(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """To 0.4 to 1.2 of the size, and the aspect by up to a quarter."""
    scale = random.uniform(0.4, 1.2)
    stretch = random.uniform(0.8, 1.25)
    height, width = image.shape
    size = max(int(width * scale * stretch), 32), max(int(height * scale), 32)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _brighten(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gamma of 0.6 to 1.7, gain of 0.8 to 1.25, and an offset."""
    bright = 255 * (image / 255) ** random.uniform(0.6, 1.7) * random.uniform(0.8, 1.25)
    return np.clip(bright + random.uniform(-15, 20), 0, 255).astype(np.uint8)


def _mark(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Calipers with a dotted line between them, and text."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    height, width = image.shape
    arm = max(3, width // 40)
    for _ in range(random.integers(1, 4)):
        x, y, to_x, to_y = random.uniform(0.1, 0.9, 4) * [width, height, width, height]
        for at_x, at_y in ((x, y), (to_x, to_y)):
            draw.line((at_x - arm, at_y, at_x + arm, at_y), fill=255)
            draw.line((at_x, at_y - arm, at_x, at_y + arm), fill=255)
        for share in np.linspace(0, 1, 20):
            draw.point((x + (to_x - x) * share, y + (to_y - y) * share), fill=255)
    at = random.uniform(0.05, 0.6) * width, random.uniform(0.05, 0.9) * height
    draw.text(at, "RT BREAST 10:00", fill=255)
    return np.asarray(picture)


def _pad(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """On black, up to 20 % of the size on each side."""
    height, width = image.shape
    shares = random.uniform(0, 0.2, 4) * [height, height, width, width]
    top, bottom, left, right = shares.astype(int)
    return np.pad(image, ((top, bottom), (left, right)))


def _compress(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As JPEG of quality 30 to 90."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(random.integers(30, 90)))
    return np.asarray(Image.open(file))
