"""The wire of MetaQ 1.4.6.2 as data: frames with what they mean, records, checksums, ids, conversations.

Taken from the original (protocol.md §7), so that decoder, encoder and a live broker are all held against its bytes.
Broker of the examples: id 0, meta://10.0.0.2:8123.
"""
# ruff: noqa: E501 (bytes of the wire, one frame a line)

from typing import Final, NamedTuple

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import (
    Command,
    Get,
    Offset,
    Operation,
    Put,
    Quit,
    Result,
    Stats,
    Sync,
    Transaction,
    Value,
    Version,
)
from metaq.txid import NULL, LocalId, XaId

SESSION: Final = "10.0.0.1-1700000000000-1"
QUALIFIER: Final = "XAMessageProducer-host1"
LOCAL: Final = LocalId(SESSION, 1)
XA: Final = XaId(100, b"\xaa\xbb\x00", b"\xcc\xdd", QUALIFIER)


class Vector(NamedTuple):
    """One frame and its meaning. Not `canonical`: it is decoded, but an encoder of today writes it another way."""

    name: str
    wire: bytes
    command: Command
    canonical: bool = True


class Conversation(NamedTuple):
    """What a fresh connection sends, what is decoded of it, and how the original reacts.

    `closed`: the original closes the connection after what it has answered. `answers`: its replies where they do not
    depend on what the broker stores; None where they do.
    """

    sent: bytes
    decoded: tuple[Command, ...]
    closed: bool
    answers: bytes | None


# id 9999, flag 0, body b"hello"
M1: Final = b"\x00\x00\x00\x056\x10\xa6\x86\x00\x00\x00\x00\x00\x00'\x0f\x00\x00\x00\x00hello"
# id -5468927324458057728, flag 1, attribute "attr", payload "hello"
M2: Final = b"\x00\x00\x00\rKb\xe5\x1c\xb4\x1aw\x92\xf3@\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04attrhello"
# id 1, flag 0, empty body
M3: Final = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
# id 9999, flag 1, attribute "attribute", payload "hello"
M4: Final = b"\x00\x00\x00\x12p\x0f\xd3\xf0\x00\x00\x00\x00\x00\x00'\x0f\x00\x00\x00\x01\x00\x00\x00\tattributehello"

REQUESTS: Final = (
    # put, no attribute, first opaque of a Java client
    Vector(
        "P1",
        b"put meta-test 0 5 0 907060870 -2147483648\r\nhello",
        Put(TopicPartition("meta-test", 0), b"hello", 0, 907060870, -2147483648),
    ),
    # put, attribute "attr", payload "hello"
    Vector(
        "P2",
        b"put meta-test 1 13 1 1264772380 -2147483647\r\n\x00\x00\x00\x04attrhello",
        Put(TopicPartition("meta-test", 1), b"\x00\x00\x00\x04attrhello", 1, 1264772380, -2147483647),
    ),
    # put, attribute "" (empty, not null)
    Vector(
        "P3",
        b"put meta-test 1 9 1 372983093 7\r\n\x00\x00\x00\x00hello",
        Put(TopicPartition("meta-test", 1), b"\x00\x00\x00\x00hello", 1, 372983093, 7),
    ),
    # put, non-ASCII attribute (U+5C5E U+6027) and payload (U+6D88 U+606F)
    Vector(
        "P4",
        (b"put meta-test 2 16 1 2080197036 8\r\n\x00\x00\x00\x06\xe5\xb1\x9e\xe6\x80\xa7\xe6\xb6\x88\xe6\x81\xaf"),
        Put(
            TopicPartition("meta-test", 2),
            b"\x00\x00\x00\x06\xe5\xb1\x9e\xe6\x80\xa7\xe6\xb6\x88\xe6\x81\xaf",
            1,
            2080197036,
            8,
        ),
    ),
    # put, empty payload, no attribute
    Vector("P5", b"put meta-test 0 0 0 0 9\r\n", Put(TopicPartition("meta-test", 0), b"", 0, 0, 9)),
    # put, random partition
    Vector(
        "P6",
        b"put meta-test -1 5 0 907060870 10\r\nhello",
        Put(TopicPartition("meta-test", -1), b"hello", 0, 907060870, 10),
    ),
    # put, checksum not supplied (1.4.4+ form)
    Vector("P7", b"put meta-test 0 5 0 -1 11\r\nhello", Put(TopicPartition("meta-test", 0), b"hello", 0, -1, 11)),
    # put, CRC-32 with top bit set: 0xd87f7e0c is sent as 0x587f7e0c
    Vector(
        "P8",
        b"put meta-test 0 4 0 1484750348 14\r\ntest",
        Put(TopicPartition("meta-test", 0), b"test", 0, 1484750348, 14),
    ),
    # put, pre-1.4.4 form (6 tokens)
    Vector(
        "P9",
        b"put meta-test 0 5 0 11\r\nhello",
        Put(TopicPartition("meta-test", 0), b"hello", 0, -1, 11),
        canonical=False,
    ),
    # put in a local transaction, 1.4.4+ (8 tokens)
    Vector(
        "P10",
        b"put meta-test 0 5 0 907060870 TX:10.0.0.1-1700000000000-1:1 12\r\nhello",
        Put(TopicPartition("meta-test", 0), b"hello", 0, 907060870, 12, LOCAL),
    ),
    # put in a local transaction, pre-1.4.4 (7 tokens)
    Vector(
        "P11",
        b"put meta-test 0 5 0 TX:10.0.0.1-1700000000000-1:1 12\r\nhello",
        Put(TopicPartition("meta-test", 0), b"hello", 0, -1, 12, LOCAL),
        canonical=False,
    ),
    # put in an XA transaction
    Vector(
        "P12",
        b"put meta-test 0 5 0 907060870 XID:100:aabb00:ccdd:XAMessageProducer-host1 13\r\nhello",
        Put(TopicPartition("meta-test", 0), b"hello", 0, 907060870, 13, XA),
    ),
    # get
    Vector(
        "G1",
        b"get meta-test meta-example 0 1024 1048576 15\r\n",
        Get(TopicPartition("meta-test", 0), "meta-example", 1024, 1048576, 15),
    ),
    # offset
    Vector(
        "O1",
        b"offset meta-test meta-example 0 1024 16\r\n",
        Offset(TopicPartition("meta-test", 0), "meta-example", 1024, 16),
    ),
    # stats, no item
    Vector("S1", b"stats  17\r\n", Stats(item="", opaque=17)),
    # stats realtime
    Vector("S2", b"stats realtime 17\r\n", Stats(item="realtime", opaque=17)),
    # stats typed by hand
    Vector("S3", b"stats\r\n", Stats(item="", opaque=2147483647), canonical=False),
    # version / heartbeat
    Vector("V1", b"version 18\r\n", Version(opaque=18, extensions=())),
    # version typed by hand
    Vector("V2", b"version\r\n", Version(opaque=2147483647, extensions=()), canonical=False),
    # quit
    Vector("QT1", b"quit\r\n", Quit()),
    # sync, 1.4.4+ (8 tokens)
    Vector(
        "Y1",
        b"sync meta-test 0 5 0 9999 907060870 19\r\nhello",
        Sync(TopicPartition("meta-test", 0), b"hello", 0, 9999, 907060870, 19),
    ),
    # sync, negative message id, checksum not supplied
    Vector(
        "Y2",
        b"sync meta-test 0 5 0 -5468927324458057728 -1 20\r\nhello",
        Sync(TopicPartition("meta-test", 0), b"hello", 0, -5468927324458057728, -1, 20),
    ),
    # sync, pre-1.4.4 (7 tokens)
    Vector(
        "Y3",
        b"sync meta-test 0 5 0 9999 19\r\nhello",
        Sync(TopicPartition("meta-test", 0), b"hello", 0, 9999, -1, 19),
        canonical=False,
    ),
    # local BEGIN
    Vector(
        "T1",
        b"transaction TX:10.0.0.1-1700000000000-1:1 10.0.0.1-1700000000000-1 BEGIN 21\r\n",
        Transaction(LOCAL, SESSION, Operation.BEGIN, 0, None, 21),
    ),
    # local BEGIN, timeout 30 s
    Vector(
        "T2",
        b"transaction TX:10.0.0.1-1700000000000-1:1 10.0.0.1-1700000000000-1 BEGIN 30 22\r\n",
        Transaction(LOCAL, SESSION, Operation.BEGIN, 30, None, 22),
    ),
    # local commit
    Vector(
        "T3",
        b"transaction TX:10.0.0.1-1700000000000-1:1 10.0.0.1-1700000000000-1 COMMIT_ONE_PHASE 23\r\n",
        Transaction(LOCAL, SESSION, Operation.COMMIT_ONE_PHASE, 0, None, 23),
    ),
    # local rollback
    Vector(
        "T4",
        b"transaction TX:10.0.0.1-1700000000000-1:1 10.0.0.1-1700000000000-1 ROLLBACK 24\r\n",
        Transaction(LOCAL, SESSION, Operation.ROLLBACK, 0, None, 24),
    ),
    # XA BEGIN, timeout and qualifier (7 tokens); gtrid aabb00, bqual ccdd
    Vector(
        "T5",
        (
            b"transaction XID:100:aabb00:ccdd:XAMessageProducer-host1 10.0.0.1"
            b"-1700000000000-1 BEGIN 30 XAMessageProducer-host1 25\r\n"
        ),
        Transaction(XA, SESSION, Operation.BEGIN, 30, QUALIFIER, 25),
    ),
    # XA END
    Vector(
        "T6",
        (
            b"transaction XID:100:aabb00:ccdd:XAMessageProducer-host1 10.0.0.1"
            b"-1700000000000-1 END XAMessageProducer-host1 26\r\n"
        ),
        Transaction(XA, SESSION, Operation.END, 0, QUALIFIER, 26),
    ),
    # XA PREPARE
    Vector(
        "T7",
        (
            b"transaction XID:100:aabb00:ccdd:XAMessageProducer-host1 10.0.0.1"
            b"-1700000000000-1 PREPARE XAMessageProducer-host1 27\r\n"
        ),
        Transaction(XA, SESSION, Operation.PREPARE, 0, QUALIFIER, 27),
    ),
    # XA commit, phase 2
    Vector(
        "T8",
        (
            b"transaction XID:100:aabb00:ccdd:XAMessageProducer-host1 10.0.0.1"
            b"-1700000000000-1 COMMIT_TWO_PHASE XAMessageProducer-host1 28\r\n"
        ),
        Transaction(XA, SESSION, Operation.COMMIT_TWO_PHASE, 0, QUALIFIER, 28),
    ),
    # XA RECOVER
    Vector(
        "T9",
        b"transaction null 10.0.0.1-1700000000000-1 RECOVER XAMessageProducer-host1 29\r\n",
        Transaction(NULL, SESSION, Operation.RECOVER, 0, QUALIFIER, 29),
    ),
    # XA FORGET
    Vector(
        "T10",
        (
            b"transaction XID:100:aabb00:ccdd:XAMessageProducer-host1 10.0.0.1"
            b"-1700000000000-1 FORGET XAMessageProducer-host1 30\r\n"
        ),
        Transaction(XA, SESSION, Operation.FORGET, 0, QUALIFIER, 30),
    ),
)

REPLIES: Final = (
    # put ok: id 9999, partition 0, offset 1024
    Vector("RP1", b"result 200 11 -2147483648\r\n9999 0 1024", Result(Status.SUCCESS, b"9999 0 1024", -2147483648)),
    # put ok with a legacy negative id
    Vector(
        "RP2", b"result 200 24 1\r\n-5468927324458057728 0 0", Result(Status.SUCCESS, b"-5468927324458057728 0 0", 1)
    ),
    # put ok inside a transaction
    Vector("RP3", b"result 200 9 12\r\n9999 0 -1", Result(Status.SUCCESS, b"9999 0 -1", 12)),
    # put, partition closed
    Vector(
        "RP4",
        (
            b"result 403 117 1\r\nPut message to [broker 'meta://10.0.0.2:8123']"
            b" [partition 'meta-test-0'] failed.Detail:partition[0-0] has been"
            b" closed"
        ),
        Result(
            Status.FORBIDDEN,
            b"Put message to [broker 'meta://10.0.0.2:8123'] [partition 'meta-test-0'] failed.Detail:partition[0-0] has been closed",
            1,
        ),
    ),
    # put, I/O failure on append
    Vector(
        "RP5",
        (b"result 500 80 1\r\nPut message to [broker 'meta://10.0.0.2:8123'] [partition 'meta-test-0'] failed."),
        Result(Status.ERROR, b"Put message to [broker 'meta://10.0.0.2:8123'] [partition 'meta-test-0'] failed.", 1),
    ),
    # put, checksum mismatch
    Vector(
        "RP6",
        (
            b"result 500 160 1\r\nPut message to [broker 'meta://10.0.0.2:8123']"
            b" [partition 'meta-test-0'] failed.Detail:Checksum failure,messag"
            b"e may be corrupted when transfering on networking."
        ),
        Result(
            Status.ERROR,
            b"Put message to [broker 'meta://10.0.0.2:8123'] [partition 'meta-test-0'] failed.Detail:Checksum failure,message may be corrupted when transfering on networking.",
            1,
        ),
    ),
    # put, partition out of range
    Vector(
        "RP7",
        (
            b"result 500 104 1\r\nPut message to [broker 'meta://10.0.0.2:8123']"
            b" [partition 'meta-test-9'] failed.Detail:wrong partition 9"
        ),
        Result(
            Status.ERROR,
            b"Put message to [broker 'meta://10.0.0.2:8123'] [partition 'meta-test-9'] failed.Detail:wrong partition 9",
            1,
        ),
    ),
    # put, topic not configured
    Vector(
        "RP8",
        (
            b"result 500 115 1\r\nPut message to [broker 'meta://10.0.0.2:8123']"
            b" [partition 'bad-0'] failed.Detail:The server do not accept topi"
            b"c bad"
        ),
        Result(
            Status.ERROR,
            b"Put message to [broker 'meta://10.0.0.2:8123'] [partition 'bad-0'] failed.Detail:The server do not accept topic bad",
            1,
        ),
    ),
    # transactional put, unknown local transaction
    Vector(
        "RP9",
        b"result 500 71 12\r\nLocal transaction 'TX:10.0.0.1-1700000000000-1:1' has not been started.",
        Result(Status.ERROR, b"Local transaction 'TX:10.0.0.1-1700000000000-1:1' has not been started.", 12),
    ),
    # transactional put, unknown XA transaction
    Vector(
        "RP10",
        (b"result 500 82 13\r\nXA transaction 'XID:100:aabb00:ccdd:XAMessageProducer-host1' has not been started."),
        Result(Status.ERROR, b"XA transaction 'XID:100:aabb00:ccdd:XAMessageProducer-host1' has not been started.", 13),
    ),
    # transactional put to partition -1
    Vector(
        "RP11",
        b"result 500 44 12\r\nInvalid partition for transaction command:-1",
        Result(Status.ERROR, b"Invalid partition for transaction command:-1", 12),
    ),
    # get ok: records M1 + M2 of 7.3
    Vector(
        "RG1",
        (
            b"value 58 15\r\n\x00\x00\x00\x056\x10\xa6\x86\x00\x00\x00\x00\x00\x00'\x0f\x00\x00\x00\x00hello\x00\x00\x00\rKb\xe5\x1c\xb4\x1aw\x92\xf3@\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04at"
            b"trhello"
        ),
        Value(M1 + M2, 15),
    ),
    # get, at the tail
    Vector(
        "RG2",
        b"result 404 39 15\r\nCould not find message at position 1024",
        Result(Status.NOT_FOUND, b"Could not find message at position 1024", 15),
    ),
    # get, no such store
    Vector(
        "RG3",
        b"result 404 52 15\r\nThe topic `meta-test` in partition `0` is not exists",
        Result(Status.NOT_FOUND, b"The topic `meta-test` in partition `0` is not exists", 15),
    ),
    # get, before the first segment / latest offset / all records filtered out
    Vector("RG4", b"result 301 4 15\r\n2048", Result(Status.MOVED, b"2048", 15)),
    # get, maxSize 0
    Vector(
        "RG5",
        b"result 400 30 15\r\nBad request,invalid max size:0",
        Result(Status.BAD_REQUEST, b"Bad request,invalid max size:0", 15),
    ),
    # get, partition closed
    Vector(
        "RG6",
        b"result 403 30 15\r\nPartition[0-0] has been closed",
        Result(Status.FORBIDDEN, b"Partition[0-0] has been closed", 15),
    ),
    # get, corrupt record while filtering
    Vector(
        "RG7",
        (
            b"result 500 102 15\r\nPut message to [broker 'meta://10.0.0.2:8123'"
            b"] [partition 'meta-test-0'] failed.Detail:Invalid message"
        ),
        Result(
            Status.ERROR,
            b"Put message to [broker 'meta://10.0.0.2:8123'] [partition 'meta-test-0'] failed.Detail:Invalid message",
            15,
        ),
    ),
    # offset ok
    Vector("RO1", b"result 200 4 16\r\n1024", Result(Status.SUCCESS, b"1024", 16)),
    # offset, no such store
    Vector(
        "RO2",
        b"result 404 52 16\r\nThe topic `meta-test` in partition `0` is not exists",
        Result(Status.NOT_FOUND, b"The topic `meta-test` in partition `0` is not exists", 16),
    ),
    # version
    Vector("RV1", b"result 200 7 18\r\n1.4.6.2", Result(Status.SUCCESS, b"1.4.6.2", 18)),
    # version without opaque
    Vector("RV2", b"result 200 7 2147483647\r\n1.4.6.2", Result(Status.SUCCESS, b"1.4.6.2", 2147483647)),
    # stats help
    Vector(
        "RS1",
        (
            b"result 200 252 17\r\nSTATS\r\n*EMPTY* Returns broker info.\r\nhelp Ret"
            b"urns help menu.\r\ntopics Returns topics statistics detail info.\r\n"
            b"offsets Returns partitions detail info.\r\nrealtime Returns realti"
            b"me statistics detail info.\r\nconfig Returns broker's config file "
            b"content.\r\nEND\r\n"
        ),
        Result(
            Status.SUCCESS,
            b"STATS\r\n*EMPTY* Returns broker info.\r\nhelp Returns help menu.\r\ntopics Returns topics statistics detail info.\r\noffsets Returns partitions detail info.\r\nrealtime Returns realtime statistics detail info.\r\nconfig Returns broker's config file content.\r\nEND\r\n",
            17,
        ),
    ),
    # stats realtime, nothing counted yet
    Vector(
        "RS2",
        (
            b"result 200 150 17\r\nSTATS\r\nrealtime_put null\r\nrealtime_get null\r\n"
            b"realtime_offset null\r\nrealtime_get_miss null\r\nrealtime_put_faile"
            b"d null\r\nrealtime_message_size null\r\nEND\r\n"
        ),
        Result(
            Status.SUCCESS,
            b"STATS\r\nrealtime_put null\r\nrealtime_get null\r\nrealtime_offset null\r\nrealtime_get_miss null\r\nrealtime_put_failed null\r\nrealtime_message_size null\r\nEND\r\n",
            17,
        ),
    ),
    # stats reset
    Vector(
        "RS3",
        b"result 200 22 17\r\nSTATS\r\nreset ok\r\nEND\r\n",
        Result(Status.SUCCESS, b"STATS\r\nreset ok\r\nEND\r\n", 17),
    ),
    # stats offsets, one partition
    Vector(
        "RS4",
        b"result 200 59 17\r\nSTATS\r\nmeta-test part 0 min_offset 0 max_offset 1760\r\nEND\r\n",
        Result(Status.SUCCESS, b"STATS\r\nmeta-test part 0 min_offset 0 max_offset 1760\r\nEND\r\n", 17),
    ),
    # stats topics
    Vector(
        "RS5",
        (
            b"result 200 127 17\r\nSTATS\r\nmeta-test partitions 1 message_count 8"
            b" message_bytes 1760 accept_publish true accept_subscribe true\r\ni"
            b"dle *Empty*\r\nEND\r\n"
        ),
        Result(
            Status.SUCCESS,
            b"STATS\r\nmeta-test partitions 1 message_count 8 message_bytes 1760 accept_publish true accept_subscribe true\r\nidle *Empty*\r\nEND\r\n",
            17,
        ),
    ),
    # stats for an unknown topic 1 (request `stats 1`)
    Vector(
        "RS6",
        (
            b"result 200 243 2147483647\r\nSTATS\r\n1\r\nresultCode 1\r\npartitions 0\r"
            b"\nmessage_count 0\r\nbytes 0\r\ntopic_realtime_put null\r\ntopic_realti"
            b"me_get null\r\ntopic_realtime_offset null\r\ntopic_realtime_get_miss"
            b" null\r\ntopic_realtime_put_failed null\r\ntopic_realtime_message_si"
            b"ze null\r\nEND\r\n"
        ),
        Result(
            Status.SUCCESS,
            b"STATS\r\n1\r\nresultCode 1\r\npartitions 0\r\nmessage_count 0\r\nbytes 0\r\ntopic_realtime_put null\r\ntopic_realtime_get null\r\ntopic_realtime_offset null\r\ntopic_realtime_get_miss null\r\ntopic_realtime_put_failed null\r\ntopic_realtime_message_size null\r\nEND\r\n",
            2147483647,
        ),
    ),
    # stats realtime, one line of counters (others zero), 10 s after a reset
    Vector(
        "RS7",
        (
            b"result 200 508 17\r\nSTATS\r\nrealtime_put Count=22,Value=22,Value/C"
            b"ount=1,Count/Duration=2.2,Duration=10\r\nrealtime_get Count=0,Valu"
            b"e=0,Value/Count=invalid,Count/Duration=0,Duration=10\r\nrealtime_o"
            b"ffset Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Durat"
            b"ion=10\r\nrealtime_get_miss Count=0,Value=0,Value/Count=invalid,Co"
            b"unt/Duration=0,Duration=10\r\nrealtime_put_failed Count=0,Value=0,"
            b"Value/Count=invalid,Count/Duration=0,Duration=10\r\nrealtime_messa"
            b"ge_size Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Dur"
            b"ation=10\r\nEND\r\n"
        ),
        Result(
            Status.SUCCESS,
            b"STATS\r\nrealtime_put Count=22,Value=22,Value/Count=1,Count/Duration=2.2,Duration=10\r\nrealtime_get Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=10\r\nrealtime_offset Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=10\r\nrealtime_get_miss Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=10\r\nrealtime_put_failed Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=10\r\nrealtime_message_size Count=0,Value=0,Value/Count=invalid,Count/Duration=0,Duration=10\r\nEND\r\n",
            17,
        ),
    ),
    # stats (summary)
    Vector(
        "RS8",
        (
            b"result 200 292 2147483647\r\nSTATS\r\npid 25944\r\nbroker_id 0\r\nport 8"
            b"123\r\nuptime 3\r\nversion 1.4.6.2\r\nslave false\r\ncurr_connections 1\r"
            b"\nthreads 25\r\ncmd_put 0\r\ncmd_get 0\r\ncmd_offset 0\r\ntx_begin 0\r\ntx_"
            b"xa_begin 0\r\ntx_commit 0\r\ntx_rollback 0\r\nget_miss 0\r\nput_failed 0"
            b"\r\ntotal_messages 0\r\ntopics 3\r\nconfig_checksum 4059861083\r\nEND\r\n"
        ),
        Result(
            Status.SUCCESS,
            b"STATS\r\npid 25944\r\nbroker_id 0\r\nport 8123\r\nuptime 3\r\nversion 1.4.6.2\r\nslave false\r\ncurr_connections 1\r\nthreads 25\r\ncmd_put 0\r\ncmd_get 0\r\ncmd_offset 0\r\ntx_begin 0\r\ntx_xa_begin 0\r\ntx_commit 0\r\ntx_rollback 0\r\nget_miss 0\r\nput_failed 0\r\ntotal_messages 0\r\ntopics 3\r\nconfig_checksum 4059861083\r\nEND\r\n",
            2147483647,
        ),
    ),
    # stats config, file content `[system]\nbrokerId=0\n`
    Vector("RS9", b"result 200 20 17\r\n[system]\nbrokerId=0\n", Result(Status.SUCCESS, b"[system]\nbrokerId=0\n", 17)),
    # sync ok
    Vector("RY1", b"result 200 8 19\r\n9999 0 0", Result(Status.SUCCESS, b"9999 0 0", 19)),
    # sync to a broker without the gregor plugin
    Vector(
        "RY2",
        (
            b"result 503 92 19\r\n\xe6\x9c\xaa\xe6\xb3\xa8\xe5\x86\x8c\xe8\xaf\xb7\xe6\xb1\x82\xe5\xa4\x84\xe7\x90\x86\xe5\x99\xa8\xef\xbc\x8c\xe8\xaf\xb7\xe6\xb1\x82\xe5\xa4\x84\xe7\x90\x86\xe5\x99\xa8\xe7\xb1\xbb\xe4"
            b"\xb8\xbacom.taobao.metamorphosis.network.SyncCommand"
        ),
        Result(
            Status.UNAVAILABLE,
            "未注册请求处理器，请求处理器类为com.taobao.metamorphosis.network.SyncCommand".encode(),
            19,
        ),
    ),
    # samsa master, slave down, to the producer
    Vector("RY3", b"result 500 22 1\r\nSlave is disconnected ", Result(Status.ERROR, b"Slave is disconnected ", 1)),
    # BEGIN / COMMIT / ROLLBACK / FORGET ok
    Vector("RT1", b"result 200 0 21\r\n", Result(Status.SUCCESS, b"", 21)),
    # PREPARE ok (XA_OK)
    Vector("RT2", b"result 200 1 27\r\n0", Result(Status.SUCCESS, b"0", 27)),
    # PREPARE of an empty transaction (XA_RDONLY)
    Vector("RT3", b"result 200 1 27\r\n3", Result(Status.SUCCESS, b"3", 27)),
    # RECOVER, two prepared transactions
    Vector(
        "RT4",
        (b"result 200 80 29\r\nXID:100:aabb00:ccdd:XAMessageProducer-host1\r\nXID:1:01:02:XAMessageProducer-host1"),
        Result(
            Status.SUCCESS, b"XID:100:aabb00:ccdd:XAMessageProducer-host1\r\nXID:1:01:02:XAMessageProducer-host1", 29
        ),
    ),
    # RECOVER, none
    Vector("RT5", b"result 200 0 29\r\n", Result(Status.SUCCESS, b"", 29)),
    # XA error
    Vector(
        "RT6",
        (
            b"result 500 106 28\r\nXAException:code=-4,msg=XA transaction 'XID:1"
            b"00:aabb00:ccdd:XAMessageProducer-host1' has not been started."
        ),
        Result(
            Status.ERROR,
            b"XAException:code=-4,msg=XA transaction 'XID:100:aabb00:ccdd:XAMessageProducer-host1' has not been started.",
            28,
        ),
    ),
    # commit of an unknown local transaction
    Vector(
        "RT7",
        b"result 500 71 23\r\nLocal transaction 'TX:10.0.0.1-1700000000000-1:1' has not been started.",
        Result(Status.ERROR, b"Local transaction 'TX:10.0.0.1-1700000000000-1:1' has not been started.", 23),
    ),
    # PREPARE of a local transaction
    Vector(
        "RT8",
        b"result 500 70 23\r\nXAException:code=-3,msg=Prepare not implemented on Local Transactions.",
        Result(Status.ERROR, b"XAException:code=-3,msg=Prepare not implemented on Local Transactions.", 23),
    ),
    # worker pool rejected the task
    Vector(
        "RX1",
        b"result 503 15 31\r\n\xe7\xba\xbf\xe7\xa8\x8b\xe6\xb1\xa0\xe7\xb9\x81\xe5\xbf\x99",
        Result(Status.UNAVAILABLE, "线程池繁忙".encode(), 31),
    ),
)

# What the legacy unit tests expect of the encoder, and the attribute record of its iterator (protocol.md §7.7).
UNIT_TESTS: Final = (
    Vector("PutCommandUnitTest", b"put test 1 5 0 -1 0\r\nhello", Put(TopicPartition("test", 1), b"hello", 0, -1, 0)),
    Vector(
        "PutCommandUnitTest in a transaction",
        b"put test 1 5 0 -1 TX:test:1 0\r\nhello",
        Put(TopicPartition("test", 1), b"hello", 0, -1, 0, LocalId("test", 1)),
    ),
    Vector(
        "GetCommandUnitTest",
        b"get test boyan-group 1 1000 1048576 -3\r\n",
        Get(TopicPartition("test", 1), "boyan-group", 1000, 1048576, -3),
    ),
    Vector(
        "OffsetCommandUnitTest",
        b"offset test boyan-test 1 1000 -1\r\n",
        Offset(TopicPartition("test", 1), "boyan-test", 1000, -1),
    ),
    Vector("StatsCommandUnitTest", b"stats  -1000\r\n", Stats("", -1000)),
    Vector("StatsCommandUnitTest of an item", b"stats topics -1000\r\n", Stats("topics", -1000)),
    Vector("VersionCommandUnitTest", b"version 999\r\n", Version(999)),
    Vector("QuitCommandUnitTest", b"quit\r\n", Quit()),
    Vector(
        "SyncCommandUnitTest",
        b"sync test 1 5 0 9999 777 0\r\nhello",
        Sync(TopicPartition("test", 1), b"hello", 0, 9999, 777, 0),
    ),
    Vector("BooleanCommandUnitTest", b"result 404 9 99\r\nnot found", Result(Status.NOT_FOUND, b"not found", 99)),
    Vector("BooleanCommandUnitTest without text", b"result 404 0 99\r\n", Result(Status.NOT_FOUND, b"", 99)),
    Vector("DataCommandCommandUnitTest", b"value 5 99\r\nhello", Value(b"hello", 99)),
    Vector(
        "TransactionCommandUnitTest",
        b"transaction TX:sessionId:99 sessionId COMMIT_ONE_PHASE 100\r\n",
        Transaction(LocalId("sessionId", 99), "sessionId", Operation.COMMIT_ONE_PHASE, 0, None, 100),
    ),
    Vector(
        "TransactionCommandUnitTest with a timeout",
        b"transaction TX:sessionId:99 sessionId BEGIN 3 100\r\n",
        Transaction(LocalId("sessionId", 99), "sessionId", Operation.BEGIN, 3, None, 100),
    ),
    Vector(
        "TransactionCommandUnitTest with a qualifier",
        b"transaction TX:sessionId:99 sessionId BEGIN unique-qualifier 100\r\n",
        Transaction(LocalId("sessionId", 99), "sessionId", Operation.BEGIN, 0, "unique-qualifier", 100),
    ),
    Vector(
        "TransactionCommandUnitTest with both",
        b"transaction TX:sessionId:99 sessionId BEGIN 3 unique-qualifier 100\r\n",
        Transaction(LocalId("sessionId", 99), "sessionId", Operation.BEGIN, 3, "unique-qualifier", 100),
    ),
)

CHECKSUMS: Final = (
    (b"", 0),
    (b"hello", 907060870),
    (b"test", 1484750348),
    (b"world", 980881731),
    (b"\x00\x00\x00\x04attrhello", 1264772380),
    (b"\x00\x00\x00\x00hello", 372983093),
    (b"\x00\x00\x00\tattributehello", 1880085488),
    (bytes(i % 127 for i in range(1024)), 1849386663),
)

# (milliseconds since 1970, or since boot for the original; worker; sequence; id)
MESSAGE_IDS: Final = (
    (1700000000000, 3, 5, 1661382015569637381),
    (1303895660504, 0, 0, 4194304),
    (1303895660503, 1023, 4095, 4194303),
    (1000, 0, 0, -5468934780236070912),
    (86400000, 3, 0, -5468572396564762624),
)


def _begin(id: LocalId | XaId, timeout: int = 0, qualifier: str | None = None) -> Transaction:
    return Transaction(id, "s", Operation.BEGIN, timeout, qualifier, 1)


def _version(*opaques: int) -> bytes:
    return b"".join(b"result 200 7 %d\r\n1.4.6.2" % opaque for opaque in opaques)


_HELLO: Final = Put(TopicPartition("test", 0), b"hello", 0, -1, 1)


def _refused(sent: bytes) -> Conversation:
    return Conversation(sent, (), True, b"")


CONVERSATIONS: Final = (
    Conversation(b"version 5 \r\n", (Version(5),), False, _version(5)),
    Conversation(b"version 007\r\n", (Version(7),), False, _version(7)),
    Conversation(b"version +7\r\n", (Version(7),), False, _version(7)),
    Conversation("version ７\r\n".encode(), (Version(7),), False, _version(7)),
    Conversation(b"vxyz 8\r\n", (Version(8),), False, _version(8)),
    Conversation(b"version 5 6 7\r\n", (Version(5, ("6", "7")),), False, _version(5)),
    Conversation(b"version\t5\r\n", (Version(2147483647),), False, _version(2147483647)),
    *map(_refused, (b"version 99999999999\r\n", b"version x\r\n", b"VERSION 1\r\n", b"version 5\r\r\n")),
    Conversation(b"version 1\n", (), False, b""),
    _refused(b"version 1\nversion 2\r\n"),
    Conversation(b"version 1\r\nfoo\r\nversion 2\r\n", (Version(1),), True, _version(1)),
    Conversation(b"version 1\r\nquit\r\nversion 2\r\n", (Version(1), Quit()), True, _version(1)),
    Conversation(b"quack 1 2\r\n", (Quit(),), True, b""),
    *map(
        _refused,
        (
            b"\r\n",
            b"   \r\n",
            b" version 1\r\n",
            b"foo\r\n",
            b"get a b\r\n",
            b"put test 0 -5 0 1\r\n",
            b"value -1 5\r\n",
            b"result 200 -1 5\r\n",
            b"statsx 1\r\n",
            b"transactionx 1\r\n",
        ),
    ),
    Conversation(b"put test 0 5 0 1\r\nhel", (), False, b""),
    Conversation(b"put test 0 5 0 1 \r\nhello", (_HELLO,), False, None),
    *map(
        _refused,
        (
            b"put test 0 5 0\r\nhello",
            b"put  test 0 5 0 -1 1\r\nhello",
            b"put test 0 5 0 +5 7\r\nhello",
            b"put test 0 5 0 foo 7\r\nhello",
            b"put test 0 5 0 - 1\r\nhello",
            b"put test 0 5 0 TX:a:b 1\r\nhello",
        ),
    ),
    Conversation(
        b"result 500 3 7\r\nabcvalue 2 8\r\nxyversion 9\r\n",
        (Result(Status.ERROR, b"abc", 7), Value(b"xy", 8), Version(9)),
        False,
        _version(9),
    ),
    Conversation(
        b"put test 1 5 0 -1 1\r\nhelloversion 2\r\nget test g 1 0 100 3\r\nversion 4\r\n",
        (
            Put(TopicPartition("test", 1), b"hello", 0, -1, 1),
            Version(2),
            Get(TopicPartition("test", 1), "g", 0, 100, 3),
            Version(4),
        ),
        False,
        None,
    ),
    Conversation(b"get test g 0 0 1024 1 extra\r\n", (Get(TopicPartition("test", 0), "g", 0, 1024, 1),), False, None),
    Conversation(b"stats 1\r\n", (Stats("1", 2147483647),), False, None),
    Conversation(b"stats a\nb 5\r\n", (Stats("a\nb", 5),), False, None),
    Conversation(b"transaction TX:a:1 s BEGIN 5 1\r\n", (_begin(LocalId("a", 1), 5),), False, None),
    Conversation(b"transaction TX:a:1 s BEGIN -5 1\r\n", (_begin(LocalId("a", 1), 0, "-5"),), False, None),
    Conversation(b"transaction TX:a:1 s BEGIN 5u 1\r\n", (_begin(LocalId("a", 1), 0, "5u"),), False, None),
    *map(
        _refused,
        (
            b"transaction TX:a:1 s BEGIN  1\r\n",
            b"transaction TX:a:1 s begin 1\r\n",
            b"transaction TX:a:1 s FOO 1\r\n",
            b"transaction TX:a:b:1 s BEGIN 1\r\n",
        ),
    ),
    Conversation(b"transaction XID:1::: s BEGIN 1\r\n", (_begin(XaId(1, b"", b"", "")),), False, None),
)

# Where we take more than the original, which closes the connection: 64-bit sequences, XA ids of clients before 1.4.5.
MORE_THAN_THE_ORIGINAL: Final = (
    Conversation(b"transaction TX:a:99999999999 s BEGIN 1\r\n", (_begin(LocalId("a", 99999999999)),), False, None),
    Conversation(b"transaction XID:1:aa:bb s BEGIN 1\r\n", (_begin(XaId(1, b"\xaa", b"\xbb", "")),), False, None),
)
