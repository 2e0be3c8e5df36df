"""What both clients tell of one message that was sent without waiting (see `plain.Sent` and `sending.Sent`)."""

from metaq.client.parcel import Parcel


class Outcome:
    """One message of a parcel, as the one who sent it sees it. Nothing here waits."""

    __slots__ = ("_index", "_parcel")

    def __init__(self, parcel: Parcel, index: int) -> None:
        self._parcel = parcel
        self._index = index

    @property
    def seen(self) -> bool:
        """Whether somebody asked."""
        return self._parcel.is_seen(self._index)

    def done(self) -> bool:
        """Say whether the outcome is known."""
        return self._parcel.is_known(self._index)

    def cancel(self) -> bool:
        """Return False: what is on its way cannot be called back."""
        return False

    def cancelled(self) -> bool:
        """Return False."""
        return False
