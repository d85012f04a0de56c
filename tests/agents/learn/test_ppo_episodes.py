"""PPO on whole episodes: hindsight credit and local groups, with advantages that were worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[rl]'")

from atommem_gym.agents.learn import ppo_episodes  # noqa: E402
from atommem_gym.agents.learn.ppo_episodes import Options, Track, continuations, rows_of  # noqa: E402
from atommem_gym.errors import ConfigError  # noqa: E402

SMALL: dict[str, Any] = {
    "num_docs": 12,
    "slots": 2,
    "steps": 96,
    "num_envs": 3,
    "rollout": 12,
    "epochs": 2,
    "batch": 32,
    "width": 8,
    "max_entries": 4,
    "chunk_tokens": 300,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Scripted:
    """An environment that gives these rewards, the last one with this credit."""

    def __init__(self, rewards: list[float], by_step: list[float] | None = None) -> None:
        self.rewards, self.by_step = list(rewards), by_step

    def step(self, choices: Any) -> Any:
        reward = self.rewards.pop(0)
        info = {"credit": {"operations": [], "by_step": self.by_step}} if not self.rewards else {}
        return torch.zeros(2).numpy(), reward, not self.rewards, False, info


def played(env: Scripted, values: list[float], *, first: int = 0, hindsight: float = 0.0) -> Track:
    track = Track(env, torch.zeros(2).numpy(), first)  # type: ignore[arg-type]
    for value in values:
        track.step(torch.tensor([1]), (torch.zeros(2), torch.tensor(-0.5), torch.tensor(value)), hindsight)
    assert track.over
    return track


def test_R7_hindsight_moves_a_share_of_the_reward_to_the_steps_that_earned_it() -> None:
    half = played(Scripted([0.25, 0.0, 1.0], [0.6, 0.0, 0.4]), [0.0] * 3, hindsight=0.5)
    assert half.rewards == pytest.approx([0.55, 0.0, 0.7])
    whole = played(Scripted([0.25, 0.0, 1.0], [0.6, 0.0, 0.4]), [0.0] * 3, hindsight=1.0)
    assert whole.rewards == pytest.approx([0.85, 0.0, 0.4])


def test_R7_what_hindsight_gives_to_the_past_stays_in_the_return_of_a_continuation() -> None:
    late = played(Scripted([0.0, 0.0, 1.0], [0.6, 0.0, 0.1, 0.3]), [0.0] * 3, first=1, hindsight=0.5)
    assert late.rewards == pytest.approx([0.0, 0.05, 0.95])
    # Steps before the fork earned all of it; that the evidence was read and answered is still the merit of one alone.
    for hindsight in (0.0, 0.5, 1.0):
        right = played(Scripted([0.0, 1.0], [1.0, 0.0, 0.0]), [0.0] * 2, first=1, hindsight=hindsight)
        wrong = played(Scripted([0.0, 0.0], [0.0, 0.0, 0.0]), [0.0] * 2, first=1, hindsight=hindsight)
        assert sum(right.rewards) - sum(wrong.rewards) == 1.0


def test_an_episode_has_generalised_advantages_and_bootstraps_nothing_at_its_end() -> None:
    track = played(Scripted([0.0, 1.0]), [0.2, 0.5])
    *_, advantages, returns = rows_of(track, Options(gamma=1.0, gae_lambda=0.5))
    # Errors 0 + 0.5 - 0.2 and 1 - 0.5; the first gets half of the second.
    assert advantages.tolist() == pytest.approx([0.3 + 0.5 * 0.5, 0.5])
    assert returns.tolist() == pytest.approx([0.75, 1.0])


def test_a_continuation_has_its_return_less_the_mean_of_its_group() -> None:
    group = [played(Scripted(rewards), [0.9] * len(rewards)) for rewards in ([0.0, 1.0], [0.5], [0.0, 0.0, 0.0])]
    for track in group:
        track.group = group
    rows = [rows_of(track, Options()) for track in group]
    assert [part[3].tolist() for part in rows] == [
        pytest.approx([0.5, 0.5]),
        pytest.approx([0.0]),
        pytest.approx([-0.5] * 3),
    ]
    assert [part[4].tolist() for part in rows] == [[1.0, 1.0], [0.5], [0.0] * 3]  # the critic learns from them, too
    assert rows[0][2].tolist() == [-0.5, -0.5]


def test_M14_continuations_begin_where_the_episode_stands() -> None:
    options = Options(**SMALL, hindsight=0.5)
    with closing(ppo_episodes.make_env(options)) as env:
        track = Track(env, env.reset(seed=0)[0])
        policy = ppo_episodes.Policy(env.action_space.nvec, len(track.observation), width=8)  # type: ignore[attr-defined]
        for _ in range(2):
            ppo_episodes.act(policy, [track], 0.0)
        group = continuations(track, 3)
        assert [one.first for one in group] == [2] * 3
        assert all(one.group is group and one.observation.tolist() == track.observation.tolist() for one in group)
        ppo_episodes.act(policy, group, 0.0)
        assert len(track.steps) == 2
        for one in group:
            one.env.close()


@pytest.mark.parametrize("changes", [{}, {"hindsight": 0.5}, {"local_groups": 2, "branches": 3}], ids=str)
def test_it_trains_and_is_reproducible_and_counts_all_steps(changes: dict[str, Any]) -> None:
    def run() -> tuple[Any, list[int], str]:
        seen: list[int] = []
        figures: list[dict[str, float]] = []
        options = Options(**SMALL, **changes)
        policy = ppo_episodes.train(options, lambda steps, _: seen.append(steps), figures.append)
        return policy.state_dict(), seen, repr(figures)

    (first, seen, told), (second, again, same) = run(), run()
    assert seen == again
    assert told == same
    assert all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))
    assert seen[0] == 0
    assert 96 <= seen[-1] < 96 + 3 + 2 * 3
    assert ("'local_groups': 2" in told) is ("local_groups" in changes)


def test_all_environments_are_closed_if_one_of_them_cannot_be_made_or_reset() -> None:
    open_ones: list[str] = []

    class Recorded:
        action_space = None

        def reset(self, seed: int) -> Any:
            if seed == 2:
                raise OSError("no reset on purpose")
            return torch.zeros(2).numpy(), {}

        def close(self) -> None:
            open_ones.pop()

    def make(options: Options) -> Any:
        if len(open_ones) == most:
            raise OSError("no environment on purpose")
        open_ones.append("env")
        return Recorded()

    for most in (2, 9):  # noqa: B007  (make looks at it)
        with pytest.raises(OSError, match="on purpose"):
            ppo_episodes.train(Options(**SMALL, seed=0), make=make)
        assert not open_ones


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hindsight": 1.5}, "hindsight=1.5 must be a share"),
        ({"local_groups": 17}, "local_groups=17 must be an integer from 0 to 16"),
        ({"branches": 1}, "branches=1 must be an integer of at least 2"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**changes)


PAGE = Path(__file__).resolve().parents[3] / "docs" / "credit.md"


def test_every_block_of_the_docs_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        # The budget is cut; everything else runs as it is written.
        short = block.replace("steps=600", "steps=40").replace('["steps"] >= 600', '["steps"] >= 40')
        exec(compile(short, str(PAGE), "exec"), names)


def test_the_options_that_the_docs_name_exist() -> None:
    from atommem_gym.agents.learn.grpo_options import Options as Grpo

    (command,) = re.findall(r"agents\.learn\.grpo (.*)", PAGE.read_text(encoding="utf-8"))
    for name in re.findall(r"--([\w-]+)", command):
        assert name.replace("-", "_") in Grpo.__dataclass_fields__, name
