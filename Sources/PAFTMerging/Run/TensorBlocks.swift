// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import Synchronization

/// A block of every operand of one tensor, in buffers of the worker that asked: whoever visits it may
/// overwrite it.
struct TensorBlock {
  /// Elements of the tensor; the pointers stand at the first of them.
  let range: Range<Int>
  /// Number of the block in the tensor.
  let number: Int
  /// Zeros where the method knows no base; filled only for those who ask for it.
  let base: UnsafeMutablePointer<Float>
  let models: [UnsafeMutablePointer<Float>]
  let out: UnsafeMutablePointer<Float>

  var count: Int { range.count }
  /// The models, to be read.
  var operands: [UnsafePointer<Float>] { models.map { UnsafePointer($0) } }
}

/// The operands of one output tensor, to be visited block by block as often as a method needs,
/// whatever the tensor's size: memory is a few blocks for each worker. Loading a block again costs
/// less than keeping the tensor, since it comes from mapped files as it is stored and goes to the
/// cache as floats.
package final class TensorBlocks {
  /// Fills the models of a block, and its base when that is wanted; says what is wrong with its values,
  /// and where, if it is the first time.
  typealias Load = (_ block: TensorBlock, _ wantsBase: Bool, _ isNew: Bool) -> (
    element: Int, fault: Fault
  )?

  let count: Int
  let models: Int
  let lanes: Lanes
  let pool: BlockPool
  /// Sees every block once, when it is first visited and before it is changed, and tells whether all
  /// its entries are finite, which then need not be asked apart.
  var observer: Observer?
  typealias Observer = (_ block: TensorBlock, _ strip: Int) -> Bool
  /// Whether all blocks have been visited.
  private var isSeen = false
  private let load: Load
  /// Called with what strips were loaded from, for those who let it go.
  private let release: ((Range<Int>) -> Void)?
  private let failure = Mutex<(element: Int, fault: Fault)?>(nil)

  init(
    count: Int, models: Int, lanes: Lanes, pool: BlockPool,
    release: ((Range<Int>) -> Void)? = nil, load: @escaping Load
  ) {
    self.count = count
    self.models = models
    self.lanes = lanes
    self.pool = pool
    self.load = load
    self.release = release
  }

  /// Some consecutive blocks, the work of one worker.
  struct Strip {
    let number: Int
    fileprivate let range: Range<Int>
    fileprivate let tensor: TensorBlocks
    fileprivate let isNew: Bool
    fileprivate let buffers: BlockPool.Buffers
    fileprivate let observer: Observer?

    /// Loads the blocks in order.
    func visit(wantsBase: Bool = false, _ body: (TensorBlock) -> Void) {
      var start = range.lowerBound
      while start < range.upperBound {
        let size = tensor.lanes.block
        let end = min(start + size, range.upperBound)
        let block = buffers.block(start..<end, number: start / size, tensor.models)
        if let bad = tensor.load(block, wantsBase, isNew && observer == nil) { tensor.fail(bad) }
        if let observer, !observer(block, number), let bad = tensor.load(block, wantsBase, true) {
          tensor.fail(bad)
        }
        body(block)
        start = end
      }
      tensor.leave(number)
    }
  }

  /// Strips that are let go together: large pages stay whole, and the other workers are interrupted
  /// seldom.
  private static let releasedStrips = 16

  /// Of those who let strips go, the last in a group of strips lets the group before it go.
  fileprivate func leave(_ number: Int) {
    let group = Self.releasedStrips
    guard let release, number % group == group - 1, number >= 2 * group - 1 else { return }
    release((number + 1 - 2 * group) * lanes.strip..<(number + 1 - group) * lanes.strip)
  }

  /// Calls `body` for every strip, or for that of one number, on the workers.
  func strips(only: Int? = nil, _ body: (Strip) throws(Fault) -> Void) throws(Fault) {
    let observer = observer
    self.observer = nil
    let isNew = !isSeen
    if only == nil { isSeen = true }
    lanes.overChunks(count, of: lanes.strip, only: only) { number, range in
      let buffers = pool.take(models, lanes.block)
      defer { pool.give(buffers) }
      do throws(Fault) {
        let strip = Strip(
          number: number, range: range, tensor: self, isNew: isNew, buffers: buffers,
          observer: observer)
        try body(strip)
      } catch {
        // After what was wrong with the strip's own values, of which it is often the consequence.
        fail((range.upperBound - 1, error))
      }
    }
    if let failure = failure.withLock({ $0 }) { throw failure.fault }
  }

  /// Loads short ranges, for those who want an idea of the tensor: by their numbers, on the workers.
  /// Nothing is checked. The ranges ascend.
  func probe(_ ranges: [Range<Int>], _ body: (_ number: Int, _ block: TensorBlock) -> Void) {
    let group = 128
    lanes.overChunks(ranges.count, of: group) { _, numbers in
      let buffers = pool.take(models, lanes.block)
      defer { pool.give(buffers) }
      for i in numbers {
        let block = buffers.block(ranges[i], number: 0, models)
        _ = load(block, false, false)
        body(i, block)
      }
      // The pages around them were mapped too: of a large tensor all there are.
      release?(ranges[numbers.lowerBound].lowerBound..<ranges[numbers.upperBound - 1].upperBound)
    }
  }

  /// One value a strip, in order.
  func collect<T>(_ empty: T, _ visit: (TensorBlock, inout T) -> Void) throws(Fault) -> [T] {
    var parts = [T](repeating: empty, count: Lanes.chunks(count, of: lanes.strip))
    let result = parts.withUnsafeMutableBufferPointer { parts -> Result<Void, Fault> in
      let parts = parts
      do throws(Fault) {
        try strips { (strip) throws(Fault) in
          var part = empty
          strip.visit { visit($0, &part) }
          parts[strip.number] = part
        }
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
    return parts
  }

  /// The first fault in the order of the elements, whoever comes first.
  private func fail(_ new: (element: Int, fault: Fault)) {
    failure.withLock { old in
      if let found = old, found.element <= new.element { return }
      old = new
    }
  }
}

/// Buffers and tables for blocks of one size, kept from tensor to tensor: as many as there were workers at once.
final class BlockPool: Sendable {
  final class Buffers: @unchecked Sendable {
    // Sendable: of one worker at a time.
    private var starts: [UnsafeMutablePointer<Float>] = []

    func block(_ range: Range<Int>, number: Int, _ models: Int) -> TensorBlock {
      TensorBlock(
        range: range, number: number, base: starts[0], models: Array(starts[2..<2 + models]),
        out: starts[1])
    }

    fileprivate func reserve(_ models: Int, _ count: Int) {
      while starts.count < models + 2 { starts.append(.allocate(capacity: count)) }
    }

    deinit { for start in starts { start.deallocate() } }
  }

  private let free = Mutex<[Buffers]>([])

  func take(_ models: Int, _ count: Int) -> Buffers {
    let buffers = free.withLock { $0.popLast() } ?? Buffers()
    buffers.reserve(models, count)
    return buffers
  }

  func give(_ buffers: Buffers) { free.withLock { $0.append(buffers) } }

  private let tallies = Mutex<[Tally]>([])

  func takeTally(_ tables: Int, _ block: Int) -> Tally {
    let kept = tallies.withLock { $0.popLast() }
    if let kept, kept.tables >= tables { return kept }
    return Tally(tables: tables, matches: block)
  }

  private let rooms = Mutex<[MagnitudeGuess.Room]>([])

  func takeRoom(_ block: Int) -> MagnitudeGuess.Room {
    rooms.withLock { $0.popLast() } ?? MagnitudeGuess.Room(block)
  }

  func give(_ room: MagnitudeGuess.Room) { rooms.withLock { $0.append(room) } }

  func give(_ tally: Tally) { tallies.withLock { $0.append(tally) } }
}
