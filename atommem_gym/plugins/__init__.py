"""What plugs in by name: code of the user's own that a keyword argument names as ``"package.module:name"``."""
