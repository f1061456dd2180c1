"""The records of the core: data with a sentence for each field, and no decisions."""
