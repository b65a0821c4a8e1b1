"""One module for each contender: imports what it needs, and ``live(work, clock)`` does the work.

``clock.start()`` when the jobs are in hand, ``clock.night()`` when all is sent; returns how many jobs have a good answer.
"""
