"""Makes container images and puts them into archives that every container runtime reads.

Nothing here knows a cluster: who runs one takes the archives.
"""
