"""A small course in instruction fine-tuning, on Tang poems. Each module is one step of the data's way."""

__version__ = "0.1.0"
