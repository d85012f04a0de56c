"""The stores that ``benchmarks/stores.py`` compares: this package's own and other people's."""
