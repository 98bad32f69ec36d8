"""Who sits at this terminal."""

from __future__ import annotations

import os
import pwd


def person() -> str:
    """The account's name, as the system knows it; variables such as $USER don't count, for anybody may set them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an account without a name, as in a container
        return f"user {os.getuid()}"
