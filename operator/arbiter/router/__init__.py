"""The data plane: splits, holds, translates and accounts the requests of a pool's clients.

Rule: it decides nothing about a swap. It obeys one RouteTable, counts what happens, and tells that; clocks and chance
come in at `process`, the wire is in `wire/`, and what is between them is told both.
"""
