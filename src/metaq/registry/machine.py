"""The registry without its sockets: packets in, packets out (source: Prep- and FinalRequestProcessor of ZooKeeper 3.8).

Everything happens in memory at once and in one order; each change is handed to the log. What is sent lies in the
`outputs` of its client: an event always before the answer that shows its change, answers in the order of requests.
Whoever drives the machine sends them once the log holds what was changed up to then.

Every attempt to change something takes a zxid, and every answer has the latest one.
"""

import logging
from typing import Final

from metaq.errors import ProtocolError
from metaq.ports import Random
from metaq.registry.access import Access
from metaq.registry.answers import Code, answer, connected, event, pack_results, refusal
from metaq.registry.changes import Begin, Change, Internal, Log, Nothing
from metaq.registry.clients import Client
from metaq.registry.options import RegistryOptions
from metaq.registry.reads import Reads
from metaq.registry.requests import (
    Auth,
    Connect,
    Create,
    Delete,
    Malformed,
    Multi,
    Op,
    Permission,
    Request,
    SetAcl,
    UnknownOp,
    read_connect,
    read_request,
)
from metaq.registry.sessions import Live, Sessions
from metaq.registry.state import Session, State
from metaq.registry.tree import Moment, Refusal
from metaq.registry.watches import Watches

log = logging.getLogger(__name__)

_CHANGES: Final = frozenset(
    {
        Op.CREATE,
        Op.CREATE2,
        Op.CREATE_CONTAINER,
        Op.CREATE_TTL,
        Op.DELETE,
        Op.SET_DATA,
        Op.SET_ACL,
        Op.CHECK,
        Op.MULTI,
    }
)
_PING_XID: Final = -2


class Machine:
    """One registry."""

    def __init__(
        self, state: State, changes: Log, random: Random, options: RegistryOptions, moment: tuple[int, int]
    ) -> None:
        """Take the state that the log left, and what `tell` takes. Begins an epoch: all its zxids are new."""
        self.state = state
        self.watches: Watches[Client] = Watches()
        self._changes = changes
        self._random = random
        self._options = options
        self._now, self._time = moment
        self.sessions: Sessions[Client] = Sessions(state.sessions, options.tick, self._now)
        self._reads = Reads(state.tree, self.watches)
        self._touched: dict[Client, None] = {}
        self._changed = False
        state.zxid = ((state.zxid >> 32) + 1) << 32
        self._note(0, Internal.START, Nothing())

    def tell(self, now: int, time: int) -> None:
        """Say what time it is: ms of a clock that only goes forward, and ms since 1970."""
        self._now, self._time = now, time

    def take(self) -> tuple[list[Client], bool]:
        """Return what happened since this was last asked.

        The clients that have something to be sent or are to be closed; whether the log got anything.
        """
        touched, self._touched = self._touched, {}
        changed, self._changed = self._changed, False
        return list(touched), changed

    def receive(self, client: Client, packets: list[bytes]) -> None:
        """Do what a client asks for, in order. One that is not understood is closed, nobody else is affected."""
        self._touched[client] = None
        try:
            for packet in packets:
                if client.closing:
                    break
                if client.session is None:
                    self._connect(client, packet)
                else:
                    self._handle(client, client.session, packet)
        except ProtocolError as exc:
            log.warning("%s is closed: %s", client, exc)
            client.closing = True
        if client.session is not None:
            self.sessions.touch(client.session, self._now)

    def leave(self, client: Client) -> None:
        """A connection has ended; its session goes on until its time-out has passed."""
        client.closing = client.dropped = True
        self.watches.forget(client)
        if client.session is not None:
            client.session.holder = None
            client.session = None

    def expire(self) -> None:
        """End the sessions whose time-out has passed; call this once a tick."""
        for live in self.sessions.expired(self._now):
            log.info("session %#x has expired after %d ms", live.id, live.timeout)
            self._end(live)

    def remove_containers(self) -> None:
        """Delete the containers whose last child has gone."""
        tree = self.state.tree
        for path in sorted(tree.containers):
            if not (node := tree.nodes[path]).children and node.created_children:
                self.state.zxid += 1
                request = Delete(path, -1)
                tree.apply(Op.DELETE, request, Moment(self.state.zxid, self._time, 0))
                self._note(0, Op.DELETE, request)
                self._tell_watchers()

    # connecting

    def _connect(self, client: Client, packet: bytes) -> None:
        request = read_connect(packet)
        if request.last_zxid > self.state.zxid:
            log.warning("%s has seen zxid %#x, ours is %#x; it is closed", client, request.last_zxid, self.state.zxid)
            client.closing = True
            return
        timeout = self._options.negotiate(request.timeout)
        if request.session == 0:
            self._begin(client, timeout)
        elif (live := self.sessions.find(request.session, request.password)) is not None:
            self._attach(client, live, timeout)
        else:
            log.info("%s asks for session %#x, which is not known or not its own", client, request.session)
            client.closing = True
        self._greet(client, request)

    def _begin(self, client: Client, timeout: int) -> None:
        id, password = self.sessions.new_id(self._time), self._random.randrange(1 << 128).to_bytes(16, "big")
        self.state.zxid += 1
        self.state.sessions[id] = Session(timeout, password)
        client.session = self.sessions.begin(id, timeout, client, self._now)
        self._note(id, Internal.BEGIN_SESSION, Begin(timeout, password))

    def _attach(self, client: Client, live: Live[Client], timeout: int) -> None:
        if live.holder is not None:
            log.info("session %#x comes from %s now, its old connection is closed", live.id, client.address)
            self._drop(live.holder)
        live.holder, live.timeout = client, timeout
        client.session = live

    def _greet(self, client: Client, request: Connect) -> None:
        brief = request.read_only is None
        if (live := client.session) is None:
            client.outputs.append(connected(0, 0, bytes(16), brief=brief))
        else:
            password = self.state.sessions[live.id].password
            client.outputs.append(connected(live.timeout, live.id, password, brief=brief))

    # requests

    def _handle(self, client: Client, live: Live[Client], packet: bytes) -> None:
        try:
            xid, op, request = read_request(packet)
        except UnknownOp as exc:
            client.outputs.append(refusal(exc.xid, self.state.zxid, Code.UNIMPLEMENTED))
            return
        except Malformed as exc:
            self.state.zxid += exc.op in _CHANGES
            client.outputs.append(refusal(exc.xid, self.state.zxid, Code.MARSHALLING))
            return
        try:
            if op in _CHANGES:
                body = self._change(client, live, op, request)
            elif op is Op.PING:
                xid, body = _PING_XID, b""
            elif isinstance(request, Auth):
                self._authenticate(client, xid, request)
                return
            elif op is Op.CLOSE:
                self._end(live)
                body = b""
            else:
                body = self._reads.answer(client, op, request)
        except Refusal as refused:
            client.outputs.append(refusal(xid, self.state.zxid, refused.code))
        else:
            if op is not Op.CHECK:  # alone it is answered only if it fails, as there
                client.outputs.append(answer(xid, self.state.zxid, body))

    def _change(self, client: Client, live: Live[Client], op: Op, request: Request) -> bytes:
        self.state.zxid += 1
        moment = Moment(self.state.zxid, self._time, live.id, client.access)
        if isinstance(request, Multi):
            done, results = self.state.tree.apply_all(request.operations, moment)
            body = pack_results(results)
        else:
            body = self.state.tree.apply(op, request, moment)
            done = op is not Op.CHECK
        if done:
            self._note(live.id, op, _resolved(request, client.access))
            self._tell_watchers()
        return body

    def _authenticate(self, client: Client, xid: int, request: Auth) -> None:
        if client.access.authenticate(request.scheme, request.auth):
            client.outputs.append(answer(xid, 0))
        else:
            log.warning("%s is closed: authentication scheme %r is not served", client, request.scheme)
            client.outputs.append(refusal(xid, 0, Code.AUTH_FAILED))
            client.closing = True

    def _end(self, live: Live[Client]) -> None:
        """End a session, closed or expired; its connection is closed after what was put into its outputs."""
        self.state.zxid += 1
        self.sessions.end(live)
        self.state.sessions.pop(live.id, None)
        self.state.tree.end_session(live.id, Moment(self.state.zxid, self._time, live.id))
        self._note(live.id, Internal.END_SESSION, Nothing())
        self._tell_watchers()
        if live.holder is not None:
            holder, live.holder = live.holder, None
            holder.session = None
            holder.closing = True
            self.watches.forget(holder)
            self._touched[holder] = None

    def _drop(self, client: Client) -> None:
        self.leave(client)
        self._touched[client] = None

    def _note(self, session: int, op: Op | Internal, request: Request | Begin | Nothing) -> None:
        self._changed = True
        self._changes.append(Change(self.state.zxid, self._time, session, op, request))

    def _tell_watchers(self) -> None:
        events = self.state.tree.events
        for kind, path, acl in events:
            heard = self.watches.hear(kind, path)
            if heard:
                packet = event(kind, path)
                for client in heard:
                    if client.access.may(acl, Permission.READ):
                        client.outputs.append(packet)
                        self._touched[client] = None
        events.clear()


def _resolved(request: Request, access: Access) -> Request:
    """Return a request that succeeded as the log keeps it: with the ACL that the node got."""
    match request:
        case Create() | SetAcl():
            fixed = access.fix(request.acl)
            return request if fixed is request.acl else request._replace(acl=list(fixed))
        case Multi(operations):
            return Multi([(op, _resolved(each, access)) for op, each in operations])
        case _:
            return request
