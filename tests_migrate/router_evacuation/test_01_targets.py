"""1 Guard: whether routers may be moved now."""

from __future__ import annotations

from fixtures.checks import Check
from fixtures.evacuation import Emptied
from ovnshift.evacuation.plan import described
from ovnshift.evacuation.steps import agent_now, nowhere
from ovnshift.migration.window import Window


def test_the_plan_can_be_done(emptied: Emptied, window: Window, check: Check) -> None:
    """Where each router goes is settled, and the agents that get some are alive and enabled now."""
    for line in described(emptied.cloud, emptied.evacuation):
        check.note(line)
    check.demand(
        emptied.evacuation.moves,
        f"no router of the L3 agent on {emptied.source.host} is to be moved",
        remedy="pytest -m pre says why each of them stays",
    )
    wrong = []
    for id_ in dict.fromkeys(move.target_id for move in emptied.evacuation.moves):
        agent = agent_now(window, emptied.agent(id_))
        if not agent.is_alive or not agent.is_admin_state_up:
            wrong.append(f"{agent.host} is {'disabled' if agent.is_alive else 'dead'}")
    what, remedy = "of the L3 agents can't take routers", "bring them back, or begin anew with --to"
    if nowhere(window, emptied.routers):
        # Whoever is nowhere has to be somewhere, first of all: then it goes back where it came from.
        check.warn_of(wrong, what, remedy=remedy)
    else:
        check.demand_none(wrong, what, remedy=remedy)


def test_no_router_is_without_an_agent(emptied: Emptied, window: Window, check: Check) -> None:
    """No router that is to be moved is on no agent; of a run that was interrupted, it is finished now."""
    check.warn_of(
        nowhere(window, emptied.routers),
        "routers are on no agent, left so by a run that was interrupted",
        remedy="nothing: they are given to the agent that they were meant for, first of all",
    )
