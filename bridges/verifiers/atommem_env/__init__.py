"""The environments of atommem-gym for verifiers (v1), under the name by which ``vf-eval`` finds them."""

from atommem_gym.bridges.verifiers import AtomMemHarness, AtomMemSingleAgentEnv, AtomMemTaskset

__all__ = ["AtomMemHarness", "AtomMemSingleAgentEnv", "AtomMemTaskset"]
