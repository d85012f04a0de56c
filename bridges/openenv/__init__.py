"""atommem-gym on an OpenEnv server: the client, and the data models that client and server share."""

from .client import AtomMemOpenEnv
from .models import AtomMemAction, AtomMemObservation, Memory, Message

__all__ = ["AtomMemAction", "AtomMemObservation", "AtomMemOpenEnv", "Memory", "Message"]
