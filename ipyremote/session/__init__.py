"""The session of this process: its beginning, its end, and the arguments of `init`."""
