"""How the package writes files of its own: lines of JSON, and the cache folder."""
