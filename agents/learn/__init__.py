"""Learners: PPO and GRPO in one file each, and what veRL needs."""
