"""The session of this process: its beginning, its end, and what `init` is asked for."""
