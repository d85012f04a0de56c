"""atommem-gym behind a server of OpenEnv: the client, and the models that both sides share."""

from .client import AtomMemOpenEnv
from .models import AtomMemAction, AtomMemObservation, Memory, Message

__all__ = ["AtomMemAction", "AtomMemObservation", "AtomMemOpenEnv", "Memory", "Message"]
