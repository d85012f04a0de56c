from . import actions as actions
from . import agents as agents
from . import envs as envs
from . import evaluation as evaluation
from . import scoring as scoring
from . import testing as testing
from . import traces as traces

__version__: str
