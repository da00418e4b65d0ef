// SPDX-License-Identifier: Apache-2.0

import CMachine
import Glibc
import PAFTBase

/// A bump allocator over one anonymous mapping, planned before a run and released as a whole.
///
/// Pages are committed on first touch (so the worker that touches a page decides its node), memory
/// starts zeroed, every allocation is aligned to 64 bytes: a cache line and the widest vector.
///
/// Large allocations keep a distance. Buffers a large power of two apart that are walked together
/// meet in the same banks of memory and sets of caches: AdamW on four of 256 MiB took 78 ms, one after
/// the other without a gap, 69 ms with one of 320 bytes, 34 with 4352, 33 with this and no less with
/// more; four of 8 MiB 0.78 ms instead of 0.68 (one Zen 4 core). Gaps are not part of the capacity.
///
/// `@unchecked Sendable`: one thread at a time allocates and releases, which is the owner's duty;
/// what was handed out may be used by all workers.
package final class Arena: @unchecked Sendable {
  package let name: String
  /// Bytes that can be handed out, whatever they are asked for in.
  package let capacity: Int
  /// The node the pages shall lie on; nil when any will do.
  package let wantedNode: Int?
  /// The node the pages are bound to; nil when the first touch decides.
  package let boundNode: Int?
  /// Bytes in use now, including what alignment and distance cost.
  package private(set) var used = 0
  /// The largest `used` so far.
  package private(set) var peak = 0

  /// The capacity and as many gaps as there can be large allocations in it.
  private let room: Int
  let base: UnsafeMutableRawPointer
  private let length: Int

  /// - Parameters:
  ///   - capacity: bytes; nothing is committed yet.
  ///   - node: where the pages shall lie. A system that does not support or allow binding leaves
  ///     it to first touch, which comes to the same with pinned workers: see `boundNode`.
  ///   - name: for messages.
  /// - Throws: `Fault(.memoryBudget)` when there is no room for the mapping.
  package init(capacity: Int, node: Int? = nil, name: String) throws {
    precondition(capacity >= 0, "arena \"\(name)\" of \(capacity) bytes")
    // Beyond 2^62 nothing can be mapped, and gaps must not make it overflow.
    room = capacity < 1 << 62 ? capacity + capacity / large * gap : capacity
    let (padded, overflow) = max(room, 1).addingReportingOverflow(2 * Arena.hugePage - 1)
    // One huge page more than needed, so that the start can be moved to a multiple of one.
    let mapped = padded & ~(Arena.hugePage - 1)
    let start =
      overflow
      ? MAP_FAILED
      : mmap(
        nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let start, start != MAP_FAILED else {
      throw Fault(
        .memoryBudget,
        "cannot map \(ByteCount(capacity)) for \(name): \(text(ofError: overflow ? ENOMEM : errno))",
        hint: "lower batch_size or max_length, or raise the memory limit (ulimit -v)")
    }
    let front =
      (Arena.hugePage - Int(bitPattern: start) & (Arena.hugePage - 1)) & (Arena.hugePage - 1)
    if front > 0 { munmap(start, front) }
    base = start + front
    length = mapped - Arena.hugePage
    if front < Arena.hugePage { munmap(base + length, Arena.hugePage - front) }

    if capacity >= hugeThreshold { madvise(base, length, MADV_HUGEPAGE) }
    boundNode =
      if let node, paft_bind_memory(base, length, Int32(clamping: node)) == 0 { node } else { nil }
    wantedNode = node
    self.capacity = capacity
    self.name = name
  }

  deinit { munmap(base, length) }

  /// Room for `count` values, aligned to 64 bytes, zeroed unless it was released before.
  /// Asking for more than the plan holds is a programmer's error and traps.
  package func allocate<T: BitwiseCopyable>(_ type: T.Type, count: Int) -> UnsafeMutablePointer<T> {
    let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<T>.stride)
    precondition(
      count >= 0 && !overflow && bytes <= room - used,
      "arena \"\(name)\": \(count) \(T.self) do not fit, \(used) of \(room) bytes are in use")
    let from = bytes >= large ? min(used + gap, room - bytes) : used
    let start = base + from
    used = min(room, (from + bytes + alignment - 1) & ~(alignment - 1))
    peak = max(peak, used)
    return start.bindMemory(to: T.self, capacity: count)
  }

  /// The position to give to `release(to:)`.
  package var mark: Int { used }

  /// Takes back everything allocated since `mark` was read. That memory is not zeroed again.
  package func release(to mark: Int) {
    precondition(mark >= 0 && mark <= used, "arena \"\(name)\": mark \(mark) of \(used) in use")
    used = mark
  }

  /// Gives pages that nothing is allocated on back to the system: for what loading has touched and
  /// work never will.
  package func trim() {
    let from = (used + Arena.hugePage - 1) & ~(Arena.hugePage - 1)
    if from < length { madvise(base + from, length - from, MADV_DONTNEED) }
  }

  /// Gives whole huge pages within a stretch between two marks back to the system, `most` bytes of them,
  /// for other memory to take their place. They stay allocated, are zero when they are touched again,
  /// and take memory again then.
  /// - Returns: how many bytes.
  package func discard(_ stretch: Range<Int>, most: Int) -> Int {
    let mask = Arena.hugePage - 1
    let end = stretch.upperBound & ~mask
    let from = max((stretch.lowerBound + mask) & ~mask, end - (most & ~mask))
    guard from < end, madvise(base + from, end - from, MADV_DONTNEED) == 0 else { return 0 }
    return end - from
  }

  /// Makes all of it zero, as it was at the start, and untouched if it takes more than `keptPages`:
  /// fewer pages cost more to fault in again, twice where they are read before they are written, than
  /// they are worth.
  /// - Returns: the bytes given back to the system.
  @discardableResult package func clear() -> Int {
    if used > Arena.keptPages, madvise(base, length, MADV_DONTNEED) == 0 { return used }
    memset(base, 0, used)
    return 0
  }
}

extension Arena {
  package static let hugePage = 2 << 20

  /// An arena that takes no more than this stays where it is when it is cleared.
  package static let keptPages = 8 << 20

  /// What an allocation takes of an arena: its bytes, and the distance that large ones keep.
  package static func taken(_ bytes: Int) -> Int { bytes >= large ? bytes + gap : bytes }
}

private let alignment = 64

/// What is kept apart, and how far: 17 small pages and 5 lines.
private let large = 2 << 20
private let gap = 1093 * 64

/// Below this a mapping is too small for huge pages to pay.
private let hugeThreshold = 32 << 20
