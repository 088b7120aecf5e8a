"""Rates of plugins: each counts under its own name, in tables that the workers of a node share."""

from collections.abc import Callable
from dataclasses import dataclass

from elemta.mail.rate import Rate
from elemta.net.node_rates import NodeRates


@dataclass(frozen=True, slots=True)
class OwnRates:
    """`elemta.plugins.tools.Rates` of one plugin."""

    plugin: str
    node: NodeRates
    monotonic: Callable[[], float]

    def take(self, key: str, cost: float, rate: Rate, *, burst: float = 0) -> float:
        return self.node.take(f"{self.plugin} {key}", cost, rate, burst, self.monotonic())

    def give_back(self, key: str, cost: float, rate: Rate, *, burst: float = 0) -> None:
        self.node.give_back(f"{self.plugin} {key}", cost, rate, burst, self.monotonic())

    def peek(self, key: str, rate: Rate, *, burst: float = 0) -> float:
        return self.node.peek(f"{self.plugin} {key}", rate, burst, self.monotonic())

    def forget(self, key: str) -> None:
        self.node.forget(f"{self.plugin} {key}")
