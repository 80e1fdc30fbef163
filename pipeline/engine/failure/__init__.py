"""When an engine fails: what was short of memory, what to ask for next, and what it leaves.

What follows for rows and slots is in ``driver.workers.death``.
"""
