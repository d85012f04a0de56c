"""Episodes to look at: traces as one HTML page that needs no network, no server and no other file."""

from atommem_gym.viewer.page import write_page

__all__ = ["write_page"]
