// SPDX-License-Identifier: Apache-2.0

package import PAFTKernels

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
  /// What a streamed method holds of each model at a time: with base, result and three models, 320 kB
  /// of a second-level cache of half a megabyte and more.
  package static let block = 1 << 14
  /// What one worker does in one go: enough for a histogram to be small beside it and for a write to
  /// be large, little enough to share a layer's matrices evenly.
  package static let strip = 1 << 18

  private var parallel: Parallel
  /// Nil: what could be done beside the work is done in it.
  private(set) var background: Background?
  let merging: MergingKernels
  let vectors: VectorKernels
  let block: Int
  let strip: Int

  /// Other sizes than the standard ones are for tests, which see more strips than one of small tensors.
  package init(
    _ parallel: @escaping Parallel = serially, kernels: KernelTable = Lanes.fastest,
    block: Int = Lanes.block, strip: Int = Lanes.strip, background: Background? = nil
  ) {
    precondition(block > 0 && strip > 0 && strip % block == 0, "a strip is some whole blocks")
    self.parallel = parallel
    self.background = background
    merging = kernels.merging
    vectors = kernels.vectors
    self.block = block
    self.strip = strip
  }

  /// The same on the calling thread alone, for work that is shared out above.
  var alone: Lanes { sharing(serially) }

  /// The same with work shared out by `parallel`, inside of what these share out.
  func sharing(_ parallel: @escaping Parallel) -> Lanes {
    var copy = self
    copy.parallel = parallel
    copy.background = nil
    return copy
  }

  /// For callers that force no table.
  package static let fastest = KernelTable.available.last ?? .reference

  static func chunks(_ count: Int, of size: Int = chunk) -> Int {
    count / size + (count % size == 0 ? 0 : 1)
  }

  package func forEach(_ count: Int, _ body: (Int) -> Void) {
    if count == 1 { body(0) } else if count > 1 { parallel(count, body) }
  }

  func overChunks(
    _ count: Int, of size: Int = chunk, only: Int? = nil,
    _ body: (_ chunk: Int, _ range: Range<Int>) -> Void
  ) {
    if let only { return body(only, only * size..<min((only + 1) * size, count)) }
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
      vectors.dot_f32(a + range.lowerBound, b + range.lowerBound, range.count)
    }
  }

  func norm(_ a: UnsafePointer<Float>, _ count: Int) -> Double { dot(a, a, count).squareRoot() }
}
