"""The environments in other stacks: one module each, by that stack's conventions, with an extra of its name.

None has a rule of its own: what an episode is and does lies below, in ``atommem_gym.agents.session`` and the pool.
"""
