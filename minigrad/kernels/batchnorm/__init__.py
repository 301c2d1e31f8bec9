"""These kernels compute BatchNorm in closed form, forward and backward.

The kernels take x, the gradient g, statistics, weight and bias, and fill arrays of the caller.
Read entry_points.py, which explains the terms and chooses the kernel, channel.py for the
arithmetic of one channel, then small_rows.py and rows.py for (n, c), and planes.py for (n, c, s).
"""
