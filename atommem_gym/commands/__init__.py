"""The subcommands of ``atommem``, one per file."""
