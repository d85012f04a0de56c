from .embedding_observation import EmbeddingObservation as EmbeddingObservation
from .macro_actions import MacroActions as MacroActions
