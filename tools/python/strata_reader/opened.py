# SPDX-License-Identifier: MIT
"""Files that stay open while they are used."""

import collections
import os


class Opened:
    """The files that were used last, `most` of them at a time. Every process opens its own: what crosses a fork is left alone,
    and what is pickled is empty."""

    def __init__(self, most):
        self.most = most
        self._files = collections.OrderedDict()
        self._owner = os.getpid()

    def get(self, key, open_it):
        """The file of this key; `open_it` is called where none is open."""
        if self._owner != os.getpid():
            # Handles of the parent process are left alone: closing them here would confuse its HDF5 and its locks.
            self._inherited, self._files, self._owner = self._files, collections.OrderedDict(), os.getpid()
        if key not in self._files:
            self._files[key] = open_it()
            if len(self._files) > self.most:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(key)
        return self._files[key]

    def close(self):
        if self._owner == os.getpid():
            for file in self._files.values():
                file.close()
            self._files.clear()

    def __len__(self):
        return len(self._files)

    def __reduce__(self):
        return Opened, (self.most,)
