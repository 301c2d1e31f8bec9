"""Compiled indices agree with NumPy's, in reads and in gradients, which they add to.

An index has up to four places: slices, integers, arrays, None, Ellipsis and masks. All sizes
differ, so that the order of the result's dimensions shows.
"""

import pytest
from index_cases import agree, arrangements

pytestmark = pytest.mark.usefixtures("as_python")


ALL = {ndim: list(arrangements(ndim)) for ndim in (1, 2, 3, 4)}
PARTS = {ndim: -(-len(cases) // 150) for ndim, cases in ALL.items()}


@pytest.mark.sampled(100, by="ndim")
@pytest.mark.parametrize(("ndim", "part"), [(n, i) for n in ALL for i in range(PARTS[n])])
def test_every_arrangement_agrees(ndim, part):
    """Each part takes arrangements from the whole list, so one part alone is a sample."""
    agree(ndim, ALL[ndim][part :: PARTS[ndim]])
