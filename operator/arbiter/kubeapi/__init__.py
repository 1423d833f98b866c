"""Reads and writes by the Kubernetes API. The only room that knows the kubernetes library.

Objects are the plain dictionaries that the API server sent, so no field is lost that a library does not know yet.
The library finds the cluster, shows who we are and holds the connections; the watch loop is our own, because the
library's has neither bookmarks nor a way back from an expired resource version. So are the writes and the Lease: each
of them says on what it was decided, so that nothing is overwritten that changed meanwhile or is not ours.
"""
