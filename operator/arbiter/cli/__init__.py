"""The commands: thin shells that parse arguments, call one room, print, and set the exit code."""
