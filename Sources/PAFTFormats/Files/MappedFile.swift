// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A regular file mapped read-only; unmapped when the last reference goes. Costs address space, not
/// memory: pages come when touched and `release` gives them back. A file that another process cuts
/// short while it is mapped raises SIGBUS on access, as with every mapping; whoever must survive
/// that reads with `FileSystem.read` instead.
package final class MappedFile: Sendable {
  package let path: String
  private let base: UInt
  private let count: Int

  package init(_ path: String) throws(Fault) {
    let descriptor = try FileSystem.openForReading(path)
    defer { close(descriptor) }
    let size = try FileSystem.regularSize(descriptor, path)
    self.path = path
    count = size
    guard size > 0 else {
      base = 0
      return
    }
    guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED
    else { throw .system(.read, path) }
    base = UInt(bitPattern: start)
  }

  deinit { if count > 0 { munmap(UnsafeMutableRawPointer(bitPattern: base), count) } }

  /// Valid as long as this object lives: hold it in a variable, or use `withBytes`.
  package var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: base), count: count)
  }

  package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E)
    -> R
  {
    defer { withExtendedLifetime(self) {} }
    return try body(bytes)
  }

  /// Asks the kernel to read `range` ahead of its use.
  package func prefetch(_ range: Range<Int>) { advise(range, MADV_WILLNEED, inward: false) }

  /// Lets the pages wholly inside `range` go; touching them later reads them again.
  package func release(_ range: Range<Int>) { advise(range, MADV_DONTNEED, inward: true) }

  private func advise(_ range: Range<Int>, _ advice: CInt, inward: Bool) {
    let page = 4096
    let range = range.clamped(to: 0..<count)
    let lower =
      inward ? (range.lowerBound + page - 1) / page * page : range.lowerBound / page * page
    let upper = inward ? range.upperBound / page * page : range.upperBound
    guard lower < upper else { return }
    madvise(UnsafeMutableRawPointer(bitPattern: base + UInt(lower)), upper - lower, advice)
  }
}
