"""Generated worlds: seeded, offline, each with questions that its documents alone answer (SPEC D4 to D6)."""
