"""Summarise arrays as small heat maps, so that a page can hold large ones."""

import base64
import math
from typing import Any, TypeAlias

import numpy as np

from ...types import Array
from ..analysis.wording import shape_text

JSON: TypeAlias = dict[str, Any]  # an object of JSON, whose values differ in type
NUMBERS = 64  # an array with no more elements than this keeps all its numbers
LEVELS = 127  # colours on either side of zero; -128 marks NaN and infinity


def summary(array: Array, cells: int) -> JSON:
    """Return an array's shape, statistics and heat map of at most `cells` cells, as data for JSON.

    A cell is the mean of a block. peak: the largest magnitude of a cell; heat: the cells, row by
    row, as signed bytes in base 64, in units of peak / 127; matrix: the shape with the first axis
    as rows and all others as columns; cells: the rows and columns of cells; numbers: the elements,
    if they are few. Values are texts, since JSON has no NaN.
    """
    if not array.size:
        return {"shape": shape_text(array)}
    matrix = np.asarray(array, np.float64).reshape(array.shape[0] if array.ndim > 1 else 1, -1)
    with np.errstate(all="ignore"):
        blocks = _blocks(matrix, cells)
        finite = np.isfinite(blocks)
        peak = np.abs(blocks[finite]).max(initial=0.0)
        scaled = np.rint(blocks / peak * LEVELS) if peak else np.zeros_like(blocks)
        levels = np.where(finite, scaled, -LEVELS - 1).astype(np.int8)
        norm = np.sqrt(np.square(matrix).sum())
        known = {"min": matrix.min(), "mean": matrix.mean(), "max": matrix.max(), "norm": norm}
    found: JSON = {k: f"{v:.4g}" for k, v in (known | {"peak": peak}).items()}
    if array.size <= NUMBERS:
        found["numbers"] = [repr(x) for x in array.reshape(-1).tolist()]
    heat = base64.b64encode(levels.tobytes()).decode()
    return found | {
        "shape": shape_text(array),
        "matrix": matrix.shape,
        "cells": blocks.shape,
        "heat": heat,
    }


def _blocks(matrix: Array, cells: int) -> Array:
    """Return the means of blocks; two columns for each row, if both axes are long enough."""
    n, m = matrix.shape
    columns = min(m, max(math.isqrt(2 * cells), cells // n))
    rows = min(n, max(1, cells // columns))
    starts = (np.arange(rows) * n // rows, np.arange(columns) * m // columns)
    sums = np.add.reduceat(np.add.reduceat(matrix, starts[0], axis=0), starts[1], axis=1)
    heights, widths = np.diff(starts[0], append=n), np.diff(starts[1], append=m)
    means: Array = sums / np.outer(heights, widths)
    return means
