"""Keys of the online store in Redis."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace.

    Only the two keys of trending are changed together, so only they share a hash tag, which puts
    them into one slot of a cluster.
    """

    namespace: str

    def visitor(self, user_id: str) -> str:
        return f"{self.namespace}:visitor:{user_id}"

    def item(self, item_id: str) -> str:
        return f"{self.namespace}:item:{item_id}"

    def catalog(self, entity: str, entity_id: str) -> str:
        return f"{self.namespace}:catalog:{entity}:{entity_id}"

    def catalog_index(self, entity: str) -> str:
        return f"{self.namespace}:catalog-ids:{entity}"

    @property
    def hold(self) -> str:
        """Exists while consumers are to apply nothing (see `slipstream.stores.rebuild`)."""
        return f"{self.namespace}:hold"

    @property
    def trending(self) -> str:
        return f"{{{self.namespace}:trending}}:state"

    @property
    def trending_scores(self) -> str:
        return f"{{{self.namespace}:trending}}:scores"
