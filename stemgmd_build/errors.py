"""The one exception that stands for the user's side of a fault."""

from __future__ import annotations


class UserError(Exception):
    """Bad input, a missing file, a full disk: anything the user can mend.

    The message is one line that names the file or option and the way out. The command
    line prints it without a traceback and exits with status 2.
    """


class NoSoundError(UserError):
    """A strike of this velocity gives no sound, where a louder or another one may."""
