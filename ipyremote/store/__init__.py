"""Where large objects lie: one directory of a session, and the segments of shared memory in it.

Not a cache and not a ledger: which objects exist and who holds them is decided in `core/`.
"""

# directory.py   the session directory: made, found, checked, removed, swept
# segments.py    SegmentStore: a process's way to write, read and recycle segments
# pool.py        recycled segments that wait for their next object
# spill.py       what lies on disk: moved there, or made there for want of room
# files.py       laying out, opening and writing files
# usage.py       how many bytes all processes of the session use, in a file that they share
# mapping.py     mappings that keep no file descriptor
