"""Parts of ``benchmarks/mutation.py``: mutants that mutmut does not make, and the table of all of them."""
