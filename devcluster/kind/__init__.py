"""Runs a cluster as containers of an engine, with kind.

Rule: commands and configuration are values, and one thin runner carries them out, so that all but the engine is tested.
"""
