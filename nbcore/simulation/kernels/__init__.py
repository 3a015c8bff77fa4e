"""The compiled loop, part by part; everything here is compiled by numba.

Vectors are stored (3, N), axis by axis, so that loops over bodies vectorise. What is known before
a run starts is a type, so that each kind of run is a program of its own: `bodies` and `axes` stand
for N and D (a tuple of that length makes a constant of it, whose loops are unrolled; a plain
integer leaves N open, `Shared` also shares every system among the cores), and the scheme, the field
and the rule are named tuples, told apart by their class. Up to 16 bodies a vector register holds
one number a body (`lanes`); beyond, loops run over bodies. The laws of physics, criteria and
features are those of the torch engine, wrapped and not written again.
"""
