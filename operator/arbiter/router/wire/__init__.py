"""HTTP/1.1 on both sides of the router: the server that clients talk to, and the pools that talk to engines.

Rule of this room: it knows bytes, limits and time, and nothing of tasks, models or protocols above HTTP. What it
reads is either one request in the strictest reading of RFC 9112 or is refused; what it writes it frames itself, so
that no header of a caller or of an engine ever decides where a message ends.
"""
