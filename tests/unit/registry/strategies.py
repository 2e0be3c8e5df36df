"""Changes of a registry by chance: any that can be written down, and any that fit a state."""

from hypothesis import strategies as st

from metaq.registry.changes import Begin, Change, Internal, Nothing
from metaq.registry.requests import Acl, Check, Create, Delete, Mode, Multi, Op, SetAcl, SetData

INTS = st.integers(-(1 << 31), (1 << 31) - 1)
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DATA = st.none() | st.binary(max_size=20)
ACLS = st.lists(st.builds(Acl, st.sampled_from(range(32)), TEXTS, TEXTS), max_size=3)
CREATES = st.builds(Create, TEXTS, DATA, ACLS, st.sampled_from(Mode), st.just(0))
SINGLE = (
    st.tuples(st.sampled_from([Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER]), CREATES)
    | st.tuples(st.just(Op.CREATE_TTL), st.builds(Create, TEXTS, DATA, ACLS, st.sampled_from(Mode), LONGS))
    | st.tuples(st.just(Op.DELETE), st.builds(Delete, TEXTS, INTS))
    | st.tuples(st.just(Op.SET_DATA), st.builds(SetData, TEXTS, DATA, INTS))
)
ALSO_ALONE = st.tuples(st.just(Op.SET_ACL), st.builds(SetAcl, TEXTS, ACLS, INTS))
ALSO_IN_MULTI = st.tuples(st.just(Op.CHECK), st.builds(Check, TEXTS, INTS))
MULTIS = st.tuples(st.just(Op.MULTI), st.builds(Multi, st.lists(SINGLE | ALSO_IN_MULTI, max_size=4)))
REQUESTS = SINGLE | ALSO_ALONE | MULTIS
CONTENTS = (
    REQUESTS
    | st.tuples(st.just(Internal.BEGIN_SESSION), st.builds(Begin, INTS, st.binary(max_size=20)))
    | st.tuples(st.sampled_from([Internal.START, Internal.END_SESSION]), st.just(Nothing()))
)
CHANGES = st.builds(lambda z, t, s, content: Change(z, t, s, *content), LONGS, LONGS, LONGS, CONTENTS)
