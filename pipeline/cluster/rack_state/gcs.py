"""Direct access to the head of a rack: its machines, and small values by name.

Ray's head keeps both, for anyone with the token, on the port where machines join: so a laptop that
is not part of the rack needs no other access. This module speaks its protocol (gRPC) without the
rest of Ray, whose client ends the process if a head is away for a minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import grpc

from pipeline.cluster.ray_access import check_access, import_ray, own_token
from pipeline.errors import JobFailed

_NAMESPACE = b"rackmill"
_ALIVE = 0
_SECONDS = 5.0


class HeadGone(JobFailed):
    """The head of a rack does not answer."""


@dataclass(frozen=True)
class Node:
    """A machine as Ray knows it. ``name``: given when it joined; ``resources``: Ray's total."""

    id: str
    name: str
    address: str
    alive: bool
    is_head: bool
    resources: dict[str, float]


class Gcs:
    """Ray's global control store at HOST:PORT."""

    def __init__(self, address: str) -> None:
        """Raises UsageError if no Ray answers there or accepts our token."""
        check_access(address)
        import_ray()
        from ray.core.generated import gcs_service_pb2 as messages
        from ray.core.generated import gcs_service_pb2_grpc as services

        self.address = address
        self._messages: ModuleType = messages
        token = own_token()
        self._metadata = [("authorization", f"Bearer {token}")] if token else None
        self._channel = grpc.insecure_channel(address)
        self._values = services.InternalKVGcsServiceStub(self._channel)
        self._nodes = services.NodeInfoGcsServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def nodes(self) -> list[Node]:
        """All machines that joined since the head started. All methods here raise HeadGone."""
        answer = self._ask(self._nodes.GetAllNodeInfo, self._messages.GetAllNodeInfoRequest())
        return [
            Node(
                id=info.node_id.hex(),
                name=info.node_name,
                address=info.node_manager_address,
                alive=info.state == _ALIVE,
                is_head=info.is_head_node,
                resources=dict(info.resources_total),
            )
            for info in answer.node_info_list
        ]

    def get(self, name: str) -> bytes | None:
        return self.all([name]).get(name)

    def all(self, names: Iterable[str]) -> dict[str, bytes]:
        """The values of those ``names`` that have one."""
        keys = [name.encode() for name in names]
        if not keys:
            return {}
        request = self._messages.InternalKVMultiGetRequest(keys=keys, namespace=_NAMESPACE)
        answer = self._ask(self._values.InternalKVMultiGet, request)
        return {entry.key.decode(): entry.value for entry in answer.results}

    def put(self, name: str, value: bytes, *, over: bool = True) -> bool:
        """Store ``value``; ``over``: also replace an existing one. Returns whether it is new."""
        request = self._messages.InternalKVPutRequest(
            key=name.encode(), value=value, overwrite=over, namespace=_NAMESPACE
        )
        return bool(self._ask(self._values.InternalKVPut, request).added)

    def delete(self, name: str) -> None:
        request = self._messages.InternalKVDelRequest(key=name.encode(), namespace=_NAMESPACE)
        self._ask(self._values.InternalKVDel, request)

    def names(self, prefix: str) -> list[str]:
        """Names of values, in order."""
        request = self._messages.InternalKVKeysRequest(prefix=prefix.encode(), namespace=_NAMESPACE)
        answer = self._ask(self._values.InternalKVKeys, request)
        return sorted(key.decode() for key in answer.results)

    def _ask(self, call: Any, request: Any) -> Any:
        try:
            return call(request, timeout=_SECONDS, metadata=self._metadata)
        except grpc.RpcError as e:
            reason = e.details() or e.code().name.lower()
            raise HeadGone(f"the rack's head at {self.address} does not answer: {reason}") from e
