"""The table of primitives holds each forward beside its derivative, in one file per family.

Each declaration enters a primitive into `TABLE` by name. The package exports the public names of
its families: primitives, and functions made of them. Read primitive.py first, then elementwise.py.
These modules import only kernels, arrays, checks, errors and types from the rest of minigrad.
"""

from .activations import *
from .batchnorm import *
from .elementwise import *
from .indexing import *
from .linalg import *
from .primitive import TABLE as TABLE
from .primitive import Primitive as Primitive
from .primitive import primitive as primitive
from .random import keep_mask as keep_mask
from .reductions import *
from .shapes import *
from .softmax import *

BUILTIN = dict(TABLE)  # minigrad's own primitives; users declare others later
