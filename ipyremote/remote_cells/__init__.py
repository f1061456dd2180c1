"""What runs user code for a notebook in a worker of any engine."""
