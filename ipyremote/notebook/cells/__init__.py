"""`%%remote` cells in the kernel: their arguments, what they capture, and how they are submitted."""
