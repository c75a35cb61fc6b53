"""TAMS for the transition between the wells of a two-dimensional potential.

The case (``case.toml``) names :func:`double_well.tams.main` as its driver; the tasks that the
workers run are in :mod:`double_well.tasks`.
"""
