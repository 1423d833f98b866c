"""Gathers what is known of the cluster, has the core decide, and carries out what it decided.

Watches, scrapes and jobs fill caches; a pass assembles a snapshot of them, asks `core` for a plan, and applies it. Only
the leader passes; the other replica keeps its caches warm. The rule: nothing is decided here. What stands in a plan is
done in its order, and what goes wrong is told to the next pass by what the cluster then looks like.
"""
