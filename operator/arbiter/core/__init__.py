"""The pure core: every decision that Arbiter takes.

Rule of this room: a function of its arguments, nothing else. `now` is an argument, randomness is an argument,
and each decision carries a reason code and a sentence.
"""
