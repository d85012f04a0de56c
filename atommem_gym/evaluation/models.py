"""Which language models a plan needs, each opened once and shared by all agents that name it."""

from __future__ import annotations

from atommem_gym.agents.players.language_model import LanguageModel, load_model
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.agents.players.player import ROLES
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.plan import ModelPlan, Plan


def plan_models(plan: Plan) -> dict[str, ModelPlan]:
    """The model of each agent that needs one, by the agent's label.

    Raises:
        ConfigError: an agent needs one and the plan names none.
    """
    wanted = {}
    for agent in plan.agents:
        model = agent.model or plan.model
        if agent.name not in ROLES:
            continue
        if model is None:
            raise ConfigError(
                f"the agent {agent.label!r} needs a language model; give --model URL --model-name NAME for a server, "
                "or --model NAME for a local one (in a plan: model: {url: …, name: …})"
            )
        wanted[agent.label] = model
    return wanted


def open_model(plan: ModelPlan) -> LanguageModel:
    """The model: behind a server, or in this process.

    Raises:
        ConfigError: an option is unknown or wrong, or a package is missing.
        LanguageModelError: it cannot be loaded.
    """
    if plan.url:
        return load_model(plan.url, plan.name or None, **plan.options)
    return load_model(plan.name, **plan.options)


async def await_model(model: LanguageModel) -> None:
    """Return when the model's server answers: only it knows the model's name, which stands in every record.

    A local model is ready once it is open.

    Raises:
        LanguageModelError: it did not answer within its ``patience``, or does not have the model.
    """
    if isinstance(model, OpenAIModel):
        await model.wait_until_ready()
