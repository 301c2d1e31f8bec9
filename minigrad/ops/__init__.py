"""The table of primitives: each forward beside its derivative, one file per family.

In: primitives come in by their declaration, and `TABLE` has them by name. Out: every name without
an underscore of the families below, which are primitives and functions made of them. Read
primitive.py first, then elementwise.py. May import kernels, arrays, checks and errors only.
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

BUILTIN = dict(TABLE)  # those of minigrad; users declare others later
