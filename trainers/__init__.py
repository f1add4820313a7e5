"""How to train: read the rows of a select, fit with one framework, evaluate, publish; here or on Ray.

A trainer gets rows and gives back a fitted object; it holds no database handle. Imports `registry` alone.
"""
