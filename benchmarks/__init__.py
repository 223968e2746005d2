"""Benchmarks: each is a module that prints its peers side by side and writes a results file.

Run one with ``python -m benchmarks.NAME`` from the project's folder.
"""
