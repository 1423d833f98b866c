"""The five kinds as values, and the schemas generated from them.

Rule of this room: no I/O, no clock, no decisions. What a user may write, what it defaults to and what it
means is said here once; everything else reads it from here.
"""
