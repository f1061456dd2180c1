"""The declarations of `@remote`: options, signatures, methods, and the export of functions to the backend."""
