"""BatchNorm in closed form, forward and backward, on arrays (N, C) and (N, C, L).

In: x or its gradient, the statistics, weight and bias. Out: arrays that the caller allocated.
dispatch.py chooses: rows.py and rows_backward.py for (N, C), planes.py for (N, C, L).
channel.py has what they share: the arithmetic of one channel.
"""
