"""The kernels: what a request costs processor time for, compiled, without the GIL.

numba compiles them (docs/adr/0034), at the first use or when an image is built. They read a model's
arrays through a table of addresses, which `slipstream.recommender.plan` makes.
"""
