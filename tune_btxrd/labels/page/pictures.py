"""Pictures: images of a store as PNGs for the screen, decoded as a model's are, made ahead and kept while they are near."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tune_btxrd.data.cache.decode import decode, read_size

LONGEST = 2048  # px of the longer side on the screen; larger images are reduced
MEMORY = 256 * 2**20  # bytes of PNGs that are kept
THREADS = 2
STORED = 0  # zlib's level: packing 3 MB takes 100 ms and saves nothing on loopback


def picture(path: Path, *, sha256: str, longest: int = LONGEST) -> bytes:
    """The image of a file as a PNG of 8 bits, upright, never enlarged; its grey levels are those that a model sees.

    Raises:
        UnreadableError: the file is missing, damaged, or no longer of this `sha256`.
    """
    import imagecodecs

    width, height = read_size(path).upright
    side = min(max(width, height), longest)
    pixels = _unpadded(decode(path, side, sha256=sha256).pixels, width, height)
    return bytes(imagecodecs.png_encode(pixels, level=STORED, filter=imagecodecs.PNG.FILTER.NO))


def _unpadded(square: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture without the black bars that make it a square."""
    side = len(square)
    across, down = (max(1, round(length * side / max(width, height))) for length in (width, height))
    left, top = (side - across) // 2, (side - down) // 2
    return np.ascontiguousarray(square[top : top + down, left : left + across])


class Pictures:
    """PNGs by image number, made in threads; those that were asked for last are kept."""

    def __init__(self, *, longest: int = LONGEST, memory: int = MEMORY) -> None:
        self.longest, self.memory = longest, memory
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")
        self._made: OrderedDict[int, asyncio.Future[bytes]] = OrderedDict()

    async def get(self, number: int, path: Path, sha256: str) -> bytes:
        """One PNG. Raises: UnreadableError."""
        self.prepare([(number, path, sha256)])
        self._made.move_to_end(number)
        try:
            return await asyncio.shield(self._made[number])
        except Exception:
            self._made.pop(number, None)  # the file may be there the next time
            raise

    def prepare(self, wanted: Sequence[tuple[int, Path, str]]) -> None:
        """Begins to make PNGs, in this order, where they are not there yet."""
        for number, path, sha256 in wanted:
            if number not in self._made:
                work = self._threads.submit(picture, path, sha256=sha256, longest=self.longest)
                self._made[number] = asyncio.wrap_future(work)
                self._made[number].add_done_callback(self._trim)

    def close(self) -> None:
        """Ends the threads; what they have not begun is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _trim(self, made: "asyncio.Future[bytes]") -> None:
        if not made.cancelled():
            made.exception()  # it is told to whoever asks for the picture
        done = [(number, len(item.result())) for number, item in self._made.items() if _is_made(item)]
        spare = sum(size for _, size in done) - self.memory
        for number, size in done:
            if spare <= 0:
                break
            del self._made[number]
            spare -= size


def _is_made(item: "asyncio.Future[bytes]") -> bool:
    return item.done() and not item.cancelled() and item.exception() is None
