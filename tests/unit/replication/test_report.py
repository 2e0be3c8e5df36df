"""How far a slave is, in the words that people and scripts get."""

from dataclasses import replace
from typing import Final

import pytest

from metaq.model import BrokerAddress, TopicPartition
from metaq.replication.report import SlaveStatus, Total, original_lines, partition_line, partition_values
from metaq.replication.status import FollowerStatus, PartitionStatus, State

MASTER: Final = BrokerAddress("10.0.0.5", 8123)
AT_END: Final = PartitionStatus(TopicPartition("test", 0), State.CURRENT, 900, 900, 0, 0, 0.0)
BEHIND: Final = PartitionStatus(TopicPartition("test", 1), State.COPYING, 100, 700, 600, 6, 1.25)
STOPPED: Final = PartitionStatus(TopicPartition("new", 0), State.STOPPED, 0, error="no such topic here;\nadd it")


def slave(*partitions: PartitionStatus, connected: bool = True, error: str | None = None) -> SlaveStatus:
    total = Total()
    for each in partitions:
        total.add(each)
    return SlaveStatus(
        broker_id=1,
        slave_id=2,
        group="g",
        running=True,
        master=MASTER,
        problem=None,
        config_problem=None,
        copying=FollowerStatus(MASTER, connected, error, partitions),
        total=total,
    )


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [
        (slave(AT_END), "current", None),
        (slave(), "current", None),
        (slave(AT_END, BEHIND), "copying", None),
        (slave(BEHIND, STOPPED), "stopped", "new-0: no such topic here;\nadd it"),
        (slave(AT_END, connected=False, error="refused"), "waiting", "refused"),
        (replace(slave(AT_END), problem="another broker"), "waiting", "another broker"),
        (replace(slave(AT_END), config_problem="kept aside"), "current", "kept aside"),
    ],
)
def test_one_word_and_one_error_stand_for_all_partitions(status: SlaveStatus, state: str, error: str | None) -> None:
    assert (status.state, status.error) == (state, error)


def test_stats_have_lines_of_key_and_value() -> None:
    assert slave(BEHIND, AT_END).summary() == [
        "slave_id 2",
        "slave_master meta://10.0.0.5:8123",
        "slave_state copying",
        "slave_lag_bytes 600",
        "slave_lag_messages 6",
        "slave_lag_seconds 1.250",
    ]
    assert slave(STOPPED).summary()[-1] == "slave_error new-0: no such topic here; add it"
    assert slave(replace(BEHIND, messages=None), AT_END).summary()[4] == "slave_lag_messages unknown"


def test_each_partition_has_a_line() -> None:
    assert partition_line(STOPPED) == (
        "new part 0 state stopped end 0 master_end unknown lag_bytes unknown lag_messages unknown"
        " lag_seconds unknown error no such topic here; add it"
    )
    assert partition_line(BEHIND) == (
        "test part 1 state copying end 100 master_end 700 lag_bytes 600 lag_messages 6 lag_seconds 1.250"
    )


def told(status: SlaveStatus) -> dict[str, object]:
    """Return what `slave-status` answers."""
    return status.values() | {"partitions": [partition_values(each) for each in status.copying.partitions]}


def test_scripts_get_the_lag_of_all_and_of_each_partition() -> None:
    assert slave(AT_END, BEHIND).values()["lag"] == {"bytes": 600, "messages": 6, "seconds": 1.25}
    never_met = slave(connected=False)
    assert never_met.values()["lag"] == {"bytes": None, "messages": None, "seconds": None}
    assert never_met.summary()[3:] == [f"slave_lag_{unit} unknown" for unit in ("bytes", "messages", "seconds")]
    values = partition_values(BEHIND)
    assert (values["topic"], values["partition"], values["state"]) == ("test", 1, "copying")
    assert values["lag"] == {"bytes": 600, "messages": 6, "seconds": 1.25}


@pytest.mark.parametrize(
    ("status", "requests", "runner", "word"),
    [
        (slave(AT_END, BEHIND), 2, "running", "yes"),
        (slave(AT_END, STOPPED), 1, "running", "no"),
        (slave(AT_END, BEHIND, connected=False), 0, "stop", "no"),
    ],
)
def test_the_lines_of_the_original_come_as_it_writes_them(
    status: SlaveStatus, requests: int, runner: str, word: str
) -> None:
    lines = list(original_lines(told(status)))
    assert lines[:3] == ["Subscriber handler:running", "Replicate partitions:2", "Replicate topic partitions detail:"]
    assert lines[-3:] == [f"Replicate requests:{requests}", f"Replicate runner:{runner}", f"Replicate status:{word}"]
    assert list(original_lines(told(replace(status, running=False)))) == ["Subscriber handler:stop"]
