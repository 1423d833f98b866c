"""Finds out what a model's source holds, and brings its files to a node: the programs of two short-lived containers.

Rule: it runs beside a workload, with that workload's secrets and without the API server. It reads no kind, decides
nothing about pools, and says what it found in a few bytes; nothing that a server sends is believed beyond its bounds.
"""
