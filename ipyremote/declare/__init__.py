"""What `@remote` is told: options, signatures, methods, and when a function is handed to the backend."""
