"""iperfpy: how fast is this path, and what is it doing to my packets?"""

__version__ = "0.1.0"
