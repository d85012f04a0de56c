from . import hashing_embedder as hashing_embedder
from .hashing_embedder import HashingEmbedder as HashingEmbedder
from .loading import CachedEmbedder as CachedEmbedder
from .loading import load_embedder as load_embedder
from .openai_embedder import EndpointEmbedder as EndpointEmbedder
from .sentence_embedder import SentenceEmbedder as SentenceEmbedder
