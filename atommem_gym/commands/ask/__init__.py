"""``atommem ask``: questions about one's own documents."""
