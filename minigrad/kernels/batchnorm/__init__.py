"""BatchNorm in closed form, forward and backward, on arrays (N, C) and (N, C, L).

In: x or its gradient, the statistics, weight and bias. Out: arrays that the caller allocated.
Read dispatch.py, which explains the terms and chooses the kernel, channel.py for the arithmetic of
one channel, then rows.py for (N, C) and planes.py for (N, C, L).
"""
