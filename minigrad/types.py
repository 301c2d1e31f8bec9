"""These types are used in the signatures of all layers."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # an array of any dtype; arrays.py says which ones are supported
DType: TypeAlias = np.dtype[Any]
Shape: TypeAlias = tuple[int, ...]
# An element of an array, or a Python number.
Number: TypeAlias = float | np.floating[Any] | np.integer[Any]
