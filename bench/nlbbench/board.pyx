"""The board: memory that the parent and the generator's processes share. Picture:

    Control                     the parent writes, all read: when the schedule, the measurement and its end begin
    Place  x processes          each process about itself
    Tally  x processes x populations

One writer per field, so there are no locks; a reader sees a count that is at most one exchange old. The layout is
known to this version of the program only: all processes are started by the one that made the board.
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from nlbbench.hist cimport COUNTS, hist_value

import mmap
import os

KINDS_USED = TLS + 1
HISTOGRAMS = ("latency", "service", "handshake")


@cython.final
cdef class Board:
    """The shared memory, seen from Python: by the parent to steer and to add up, by a process to find its places.

    Args:
        descriptor: of a memfd; a new one is sized when `create` is set, and stays the caller's to close.
        processes: of the generator.
        populations: of the load.
    """

    def __cinit__(self, int descriptor, int processes, int populations, bint create=False):
        self.processes = processes
        self.populations = populations
        size = sizeof(Control) + processes * (sizeof(Place) + populations * sizeof(Tally))
        if create:
            os.ftruncate(descriptor, size)
        self.memory = mmap.mmap(descriptor, size)
        cdef unsigned char[::1] view = self.memory
        self.control = <Control *>&view[0]
        self.places = <Place *>(self.control + 1)
        self.tallies = <Tally *>(self.places + processes)
        self.before = <uint64_t *>calloc(<size_t>populations * COUNTS, sizeof(uint64_t))
        if self.before == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.before)

    cdef Tally *tally(self, int process, int population):
        return self.tallies + process * self.populations + population

    def steer(self, *, schedule=None, begin=None, end=None) -> None:
        """Set the moments that are given, in ns of the monotonic clock."""
        if begin is not None:
            self.control.begin = begin
        if end is not None:
            self.control.end = end
        if schedule is not None:
            self.control.schedule = schedule

    def place(self, int process) -> dict[str, int]:
        """What a process says about itself."""
        cdef Place *at = self.places + process
        return {"ready": at.ready, "counted": at.counted, "over": at.over, "last": at.last}

    def counts(self, int population) -> dict[str, int]:
        """The counters of a population, all processes together."""
        cdef int process
        cdef Tally *at
        total = dict.fromkeys(
            ("planned", "done", "sent", "received", "opened", "full", "resumed", "all_done", "all_failed"), 0)
        for process in range(self.processes):
            at = self.tally(process, population)
            total["planned"] += at.planned
            total["done"] += at.done
            total["sent"] += at.sent
            total["received"] += at.received
            total["opened"] += at.opened
            total["full"] += at.full
            total["resumed"] += at.resumed
            total["all_done"] += at.all_done
            total["all_failed"] += at.all_failed
        return total

    def failed(self, int population) -> list[int]:
        """How many failed, by kind (numbered as spec.Failure is ordered)."""
        cdef int process, kind
        cdef Tally *at
        total = [0] * KINDS_USED
        for process in range(self.processes):
            at = self.tally(process, population)
            for kind in range(KINDS_USED):
                total[kind] += at.failed[kind]
        return total

    def samples(self, int population) -> list[tuple[int, int, int, int, int, int]]:
        """Described failures: kind, when, OpenSSL's error, the verification's, errno, right bytes before."""
        cdef int process, kind, number
        cdef Tally *tally
        cdef Sample *at
        found = []
        for kind in range(KINDS_USED):
            for process in range(self.processes):
                tally = self.tally(process, population)
                for number in range(SAMPLES):
                    at = &tally.samples[kind][number]
                    if at.at:
                        found.append((kind, at.at, at.error, at.verify, at.code, at.place))
        return found

    def negotiated(self, int population) -> dict[str, int]:
        """Connections by what was negotiated."""
        cdef int process, number
        cdef Tally *tally
        cdef Row *row
        found = {}
        for process in range(self.processes):
            tally = self.tally(process, population)
            for number in range(ROWS):
                row = &tally.rows[number]
                if row.count:
                    text = row.text.decode()
                    found[text] = found.get(text, 0) + row.count
        return found

    cdef uint64_t *histogram(self, int process, int population, int which):
        cdef Tally *at = self.tally(process, population)
        if which == 0:
            return at.latency
        if which == 1:
            return at.service
        return at.handshake

    def values(self, int population, str which) -> list[tuple[int, int]]:
        """One of HISTOGRAMS, all processes together: values in ns with their counts."""
        cdef int process, index
        cdef uint64_t count
        cdef int number = HISTOGRAMS.index(which)
        found = []
        for index in range(COUNTS):
            count = 0
            for process in range(self.processes):
                count += self.histogram(process, population, number)[index]
            if count:
                found.append((hist_value(index), count))
        return found

    def late(self, double share) -> int:
        """How late, in ns, the schedule was looked at: the percentile `share` (0 to 1) over all processes."""
        cdef int process, index
        cdef uint64_t total = 0, below = 0
        for process in range(self.processes):
            for index in range(COUNTS):
                total += self.places[process].late[index]
        for index in range(COUNTS):
            for process in range(self.processes):
                below += self.places[process].late[index]
            if below and below >= share * total:
                return hist_value(index)
        return 0

    def interval(self, int population) -> tuple[int, int, int]:
        """Median, 99th percentile and longest latency (ns) of what ended since this was called the last time; 0 for
        none."""
        cdef uint64_t *before = self.before + population * COUNTS
        cdef uint64_t fresh[COUNTS]
        cdef uint64_t total = 0, below = 0, count
        cdef uint64_t middle = 0, high = 0, longest = 0
        cdef int process, index
        for index in range(COUNTS):
            count = 0
            for process in range(self.processes):
                count += self.tally(process, population).latency[index]
            fresh[index] = count - before[index]
            before[index] = count
            total += fresh[index]
        for index in range(COUNTS):
            if fresh[index] == 0:
                continue
            below += fresh[index]
            longest = hist_value(index)
            if middle == 0 and 2 * below >= total:
                middle = longest
            if high == 0 and 100 * below >= 99 * total:
                high = longest
        return middle, high, longest
