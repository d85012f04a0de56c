"""Custom parts that a keyword argument names as ``"package.module:name"``."""
