"""The engine that runs everything in this process, synchronously: for debugging and teaching."""
