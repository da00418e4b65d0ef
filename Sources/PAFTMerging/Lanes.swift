// SPDX-License-Identifier: Apache-2.0

/// Runs `body(0) … body(count - 1)`, on as many threads as the caller likes, and returns when all
/// are done. This room makes no threads; whoever has a team passes it in.
package typealias Parallel = (_ count: Int, _ body: (Int) -> Void) -> Void

/// The default: one after the other.
package func serially(_ count: Int, _ body: (Int) -> Void) {
  for index in 0..<count { body(index) }
}

/// Work over long vectors in chunks of a fixed size. Sums are added chunk by chunk in order, so the
/// result has the same bits for any number of threads.
package struct Lanes {
  /// 256 kB of floats: a few of them fit the second-level cache together.
  static let chunk = 1 << 16

  private let parallel: Parallel

  package init(_ parallel: @escaping Parallel = serially) { self.parallel = parallel }

  static func chunks(_ count: Int, of size: Int = chunk) -> Int {
    count / size + (count % size == 0 ? 0 : 1)
  }

  func forEach(_ count: Int, _ body: (Int) -> Void) {
    if count == 1 { body(0) } else if count > 1 { parallel(count, body) }
  }

  func overChunks(
    _ count: Int, of size: Int = chunk, _ body: (_ chunk: Int, _ range: Range<Int>) -> Void
  ) {
    forEach(Self.chunks(count, of: size)) { index in
      let start = index * size
      body(index, start..<min(start + size, count))
    }
  }

  /// One value a chunk, in order.
  func collect<T>(
    _ count: Int, _ empty: T, of size: Int = chunk, _ body: (Range<Int>) -> T
  ) -> [T] {
    var parts = [T](repeating: empty, count: Self.chunks(count, of: size))
    parts.withUnsafeMutableBufferPointer { parts in
      let parts = parts
      overChunks(count, of: size) { chunk, range in parts[chunk] = body(range) }
    }
    return parts
  }

  func sum(_ count: Int, _ body: (Range<Int>) -> Double) -> Double {
    collect(count, 0, body).reduce(0, +)
  }

  func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Double {
    sum(count) { range in
      var total = 0.0
      for i in range { total += Double(a[i]) * Double(b[i]) }
      return total
    }
  }

  func norm(_ a: UnsafePointer<Float>, _ count: Int) -> Double { dot(a, a, count).squareRoot() }
}
