from . import actions as actions
from . import agents as agents
from . import bridges as bridges
from . import config as config
from . import custom as custom
from . import embedders as embedders
from . import envs as envs
from . import errors as errors
from . import evaluation as evaluation
from . import memory as memory
from . import policies as policies
from . import prompts as prompts
from . import readers as readers
from . import records as records
from . import registration as registration
from . import scoring as scoring
from . import stores as stores
from . import task as task
from . import testing as testing
from . import traces as traces
from . import viewer as viewer
from . import worlds as worlds

__version__: str
