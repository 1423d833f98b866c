"""Brings up a real Kubernetes on this machine, for development and tests, in one command.

It imports nothing from `arbiter`, and nothing beyond the standard library: the operator is tested against it as
against any other cluster.
"""
