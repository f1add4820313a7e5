"""What to train, and what came of it: model documents, selects, versions, fits, feeds, pending work.

Also artifacts, and the datastore that holds them. The lowest room: it imports none of the others.
"""
