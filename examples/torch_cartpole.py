# SPDX-License-Identifier: MIT
"""PyTorch: balance a pole without its velocity
============================================

RecurrentPPO of sb3-contrib balances a pole without seeing velocities.

Its policy resets the state where an episode starts, in a loop of Python over the steps. `Policy`
makes one call of it, with `resets=`; and the one line that changes names that policy.
Needs `pip install "bptt[torch]" sb3-contrib`::

    python examples/torch_cartpole.py              # --before: as it was;  --quick: fewer steps
"""

import sys

import gymnasium
import numpy as np
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent import MlpLstmPolicy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import bptt.torch


class Policy(MlpLstmPolicy):
    """The policy of sb3-contrib with its LSTMs in bptt."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        bptt.torch.accelerate(self)

    @staticmethod
    def _process_sequence(features, lstm_states, episode_starts, lstm):
        n = lstm_states[0].shape[1]
        x = features.reshape(n, -1, lstm.input_size).swapaxes(0, 1)
        resets = episode_starts.reshape(n, -1).swapaxes(0, 1) > 0
        y, lstm_states = lstm(x, lstm_states, resets=resets)
        return y.swapaxes(0, 1).flatten(0, 1), lstm_states


def blind_cartpole():
    """CartPole with the positions of cart and pole alone."""
    env = gymnasium.make("CartPole-v1")
    low, high = env.observation_space.low[[0, 2]], env.observation_space.high[[0, 2]]
    space = gymnasium.spaces.Box(low, high, dtype=np.float32)
    return Monitor(gymnasium.wrappers.TransformObservation(env, lambda o: o[[0, 2]], space))


def train(policy, quick=False):
    """Return the losses of the updates, and the mean length of the last 100 episodes."""
    model = RecurrentPPO(
        policy,
        DummyVecEnv([blind_cartpole] * 8),
        n_steps=128,
        batch_size=256,
        n_epochs=10,
        learning_rate=1e-3,
        gamma=0.98,
        seed=0,
        device="cpu",
        policy_kwargs={"lstm_hidden_size": 64, "ortho_init": False},
    )
    losses = []
    record = model.train

    def trained():
        record()
        losses.append(model.logger.name_to_value["train/loss"])

    model.train = trained
    model.learn(total_timesteps=1024 * (2 if quick else 100), log_interval=1000)
    return losses, float(np.mean([episode["l"] for episode in model.ep_info_buffer]))


if __name__ == "__main__":
    policy = MlpLstmPolicy if "--before" in sys.argv else Policy
    losses, steps = train(policy, "--quick" in sys.argv)
    print(f"{policy.__name__}: loss {losses[0]:.6f}, then {losses[1]:.6f}; {steps:.1f} steps")
