"""Keys of the online store in Redis."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace.

    Keys that are changed together share a hash tag, which puts them into one slot of a cluster:
    the lists of demand and active visitors with their state, and the checkpoints with the lineages.
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

    def checkpoint(self, source: str) -> str:
        return f"{{{self.namespace}:checkpoint}}:{source}"

    def lineage(self, source: str) -> str:
        return f"{{{self.namespace}:checkpoint}}:lineage:{source}"

    def settled(self, tag: int) -> str:
        """A key with a tag for a slot of the counting node: see `cluster_clients`."""
        return f"{self.namespace}:settled:{{{tag}}}"

    def erased(self, kind: str) -> str:
        """Digests of erased visitors, by the time up to which their records are left out."""
        return f"{{{self.namespace}:erased}}:{kind}"

    @property
    def hold(self) -> str:
        """Exists while consumers are to apply nothing (see `slipstream.stores.rebuild`)."""
        return f"{self.namespace}:hold"

    @property
    def lake_hold(self) -> str:
        """Exists while nothing is to be appended to the lake (see `lake_lease`)."""
        return f"{self.namespace}:lake-hold"

    @property
    def erasing(self) -> str:
        """The replica that erases from the lake now."""
        return f"{self.namespace}:erasing"

    def files_begun(self, node: str) -> str:
        """The server that began to rewrite its files, and when (see `redis_server`).

        `node` is its address in a cluster, else empty.
        """
        return f"{self.namespace}:files-begun{node and f':{node}'}"

    def files_written(self, node: str) -> str:
        """When the server began to write the files that it has now."""
        return f"{self.namespace}:files-written{node and f':{node}'}"

    @property
    def trending(self) -> str:
        return f"{{{self.namespace}:trending}}:state"

    @property
    def trending_scores(self) -> str:
        return f"{{{self.namespace}:trending}}:scores"

    @property
    def active_visitors(self) -> str:
        """The visitors who were active last, by the time of their newest event (ms)."""
        return f"{{{self.namespace}:trending}}:active"

    def popular_scores(self, window: str) -> str:
        return f"{{{self.namespace}:trending}}:popular:{window}"

    def demand_scores(self, window: str) -> str:
        """The scores of a window's popular items; with an empty window those of trending items."""
        return self.popular_scores(window) if window else self.trending_scores
