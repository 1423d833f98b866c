"""Runs a cluster as processes of this machine: each node in namespaces of its own, and no container engine.

Rule: what is done to the machine is written down before, so that all of it can be undone, whatever happens between.
"""
