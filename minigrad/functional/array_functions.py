"""Each line here defines one of the array functions that users find in `minigrad`.

They are public versions of primitives and of functions of ops: they also take arrays, lists and
numbers, which become constants. `minigrad` exports every name here without an underscore.
"""

from .. import ops as _ops
from ._public import OVER_AXES as _OVER_AXES
from ._public import joining as _joining
from ._public import public as _public

abs = _public(_ops.abs)
argmax = _public(_ops.argmax)
argmin = _public(_ops.argmin)
broadcast_to = _public(_ops.broadcast_to)
clip = _public(_ops.clip)
equal = _public(_ops.equal)
erf = _public(_ops.erf)
exp = _public(_ops.exp)
flatten = _public(_ops.flatten)
greater = _public(_ops.greater)
greater_equal = _public(_ops.greater_equal)
isnan = _public(_ops.isnan)
less = _public(_ops.less)
less_equal = _public(_ops.less_equal)
log = _public(_ops.log)
logical_and = _public(_ops.logical_and)
logical_not = _public(_ops.logical_not)
logical_or = _public(_ops.logical_or)
matmul = _public(
    _ops.matmul,
    "Shapes (..., n, k) and (..., k, m) give (..., n, m). Errors: ShapeError, DtypeError.",
)
max = _public(_ops.max, _OVER_AXES)
maximum = _public(_ops.maximum)
mean = _public(_ops.mean, _OVER_AXES)
min = _public(_ops.min, _OVER_AXES)
minimum = _public(_ops.minimum)
not_equal = _public(_ops.not_equal)
permute_dims = _public(_ops.permute_dims)
relu = _public(_ops.relu)
reshape = _public(_ops.reshape)
rsqrt = _public(_ops.rsqrt)
sigmoid = _public(_ops.sigmoid)
sign = _public(_ops.sign)
softplus = _public(_ops.softplus)
sqrt = _public(_ops.sqrt)
square = _public(_ops.square)
squeeze = _public(
    _ops.squeeze, "axis: an int or a tuple of them. Errors: ArgumentError, ShapeError."
)
std = _public(_ops.std, f"{_OVER_AXES}\ncorrection: as for var.")
sum = _public(_ops.sum, _OVER_AXES)
tanh = _public(_ops.tanh)
transpose = _public(_ops.transpose)
unsqueeze = _public(_ops.unsqueeze)
var = _public(_ops.var, _OVER_AXES)
where = _public(_ops.where)
concat = _joining(_ops.concat)
stack = _joining(_ops.stack)
