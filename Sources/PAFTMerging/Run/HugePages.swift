// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Zeroed memory on huge pages where the kernel has some, from the kernel itself and back to it: in
/// malloc's heap a part that was advised so once stays large and is kept after it was freed.
final class HugePages: Sendable {
  static let size = 2 << 20

  nonisolated(unsafe) let start: UnsafeMutableRawPointer
  let bytes: Int

  /// - Parameter bytes: rounded up to whole pages.
  init(_ bytes: Int) {
    let page = Self.size
    self.bytes = max(1, (bytes + page - 1) / page) * page
    let mapped = mmap(
      nil, self.bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let mapped, mapped != MAP_FAILED else {
      fatalError("no memory for \(self.bytes) bytes of merge buffers")
    }
    // A huge page begins at a multiple of its size; what was mapped around them goes back.
    let before = (page - Int(bitPattern: mapped) % page) % page
    start = mapped + before
    if before > 0 { munmap(mapped, before) }
    munmap(start + self.bytes, page - before)
    madvise(start, self.bytes, MADV_HUGEPAGE)
  }

  deinit { munmap(start, bytes) }
}
