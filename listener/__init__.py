"""When to train: feeds of committed changes, which models they match, the policy that says which are due, and
the daemon that brings every model back to fresh. Imports `trainers` and `registry`.
"""
