"""Data sets for training and evaluation, and the generator of the free one."""
