"""Renders every object that Arbiter makes, whole and as plain dicts in the form in which the API server tells them.

Rule: rendering decides nothing. The same arguments give the same object to the byte, amounts are written as Kubernetes
writes them, and what would be empty is left out; so that a comparison with what stands shows drift and nothing else.
"""
