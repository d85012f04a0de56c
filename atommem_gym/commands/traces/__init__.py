"""The commands about recorded episodes: replay, rescore, export and view."""
