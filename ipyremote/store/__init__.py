"""The place of large objects: the directory of a session, and the segments of shared memory in the directory.

The store is no cache and no ledger: `core/` decides which objects exist and who holds them.
"""

# directory.py       the session directory: how it is made, found, checked, removed and swept
# segments.py        SegmentStore: a process's way to write, read and recycle segments
# segment_pool.py    recycled segments that wait for their next object
# spill.py           segments on disk, which were moved there or found no room in memory
# files.py           laying out, opening and writing files
# usage.py           number of bytes that all processes of the session use, in a file that they share
# mapping.py         mappings that keep no file descriptor
# progress_page.py   a page on which a worker notes which runs it has started and finished
