"""``atommem ask``: questions about your own documents."""
