"""Generated worlds: seeded, offline, with questions that only their documents answer (SPEC D4 to D6, D8, D9)."""
