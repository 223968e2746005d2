"""Measurements of a region: all of them by name, in one order."""

import functools

import numpy as np

from hybridus.estimators.lesion.echo import look_closer, measure_behind, measure_echo
from hybridus.estimators.lesion.region import Region, find_region
from hybridus.estimators.lesion.shape import measure_shape
from hybridus.estimators.lesion.texture import measure_texture


def measure(region: Region) -> dict[str, float]:
    """Measure a region in every way: by name, always the same names, always finite.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.estimators.lesion.measurements import measure
    >>> from hybridus.estimators.lesion.region import find_region
    >>> rows, columns = np.ogrid[:64, :64]
    >>> disc = (rows - 32) ** 2 + (columns - 32) ** 2 < 12**2
    >>> image = np.where(disc, 40, 160).astype("uint8")
    >>> found = measure(find_region(image, disc.astype("f4"), 0.5))
    >>> found["shape2D_Elongation"] > 0.95, round(found["echo_Contrast"], 1) > 0.4
    (True, True)
    """
    ranks, weights, depth = look_closer(region)
    inside = weights > 0
    likely = region.probabilities[region.mask]
    sure = {
        "found_Lesion": float(region.found),
        "found_Components": float(min(region.n_components, 5)),
        "found_Largest": float(region.probabilities.max()),
        "found_Mean": float(likely.mean()),
        "found_Deviation": float(likely.std()),
        # Where the map neither says yes nor no, as a share of the region: a blurred outline.
        "found_Unsure": float(
            ((region.probabilities > 0.1) & (region.probabilities < 0.9)).sum() / region.mask.sum()
        ),
    }
    return {
        **sure,
        **measure_shape(region),
        **measure_echo(ranks, weights, depth),
        **measure_behind(region),
        **measure_texture(ranks, inside),
    }


@functools.cache
def measurement_names() -> tuple[str, ...]:
    """Names of all measurements, in the order of their columns."""
    image = np.full((64, 64), 200, np.uint8)
    image[16:48, 16:48] = 50
    return tuple(measure(find_region(image, (image == 50).astype(np.float32), 0.5)))
