"""A small course in instruction fine-tuning, on Tang poems. One module for each stop of the data's way."""

__version__ = "0.1.0"
