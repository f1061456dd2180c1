"""Text that tasks write and failures that they leave, shown below the cell that asked."""
