"""What answers at the address of a Ray: known within seconds, before Ray itself tries.

Ray tries for a minute, and says little about the reason. The request is one that any Ray answers,
for the cluster's ID, with an empty message over gRPC: with token authentication on, it answers only
with the token.
"""

from __future__ import annotations

from enum import Enum

import grpc

_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_SECONDS = 5.0


class Head(Enum):
    """``OPEN``: a Ray that accepts commands from anyone. ``LOCKED``: one that rejects this token,
    or a missing one. ``OURS``: one that accepts it."""

    NOBODY = "nobody"
    STRANGER = "no Ray"
    OPEN = "open"
    LOCKED = "locked"
    OURS = "ours"


def look_at(address: str, token: str | None) -> Head:
    """What answers at HOST:PORT."""
    answer = _ask(address, None)
    if answer is None:
        return Head.OPEN
    if answer is not grpc.StatusCode.UNAUTHENTICATED:
        return answer if isinstance(answer, Head) else Head.STRANGER
    return Head.OURS if token and _ask(address, token) is None else Head.LOCKED


def _ask(address: str, token: str | None) -> Head | grpc.StatusCode | None:
    """None: it answers. Otherwise the status, or that nothing is there."""
    metadata = [("authorization", f"Bearer {token}")] if token else None
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(_CLUSTER_ID)
        try:
            ask(b"", timeout=_SECONDS, metadata=metadata)
        except grpc.RpcError as e:
            status: grpc.StatusCode = e.code()
            if status is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Head.NOBODY
            if status is grpc.StatusCode.UNAVAILABLE:
                # a server with another protocol: the details quote its answer
                return Head.STRANGER if "Failed parsing HTTP" in e.details() else Head.NOBODY
            return status
    return None
