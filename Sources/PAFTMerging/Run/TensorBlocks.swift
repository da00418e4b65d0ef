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

  /// Room for other elements of the tensor, from a place in this one on.
  func part(_ place: Int, of range: Range<Int>) -> TensorBlock {
    TensorBlock(
      range: range, number: number, base: base + place, models: models.map { $0 + place },
      out: out + place)
  }

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
  /// The operands as they are stored, where these are two BF16 branches of a BF16 base.
  let stored: StoredBranches?
  /// Sees every block once, when it is first visited and before it is changed, and tells whether all
  /// its entries are finite, which then need not be asked apart.
  var observer: MergeReport.Observation?
  /// Whether all blocks have been visited.
  private var isSeen = false
  private let load: Load
  /// Called with what strips were loaded from, for those who let it go.
  private let release: ((Range<Int>) -> Void)?
  private let failure = Mutex<(element: Int, fault: Fault)?>(nil)

  init(
    count: Int, models: Int, lanes: Lanes, pool: BlockPool, stored: StoredBranches? = nil,
    release: ((Range<Int>) -> Void)? = nil, load: @escaping Load
  ) {
    self.count = count
    self.models = models
    self.lanes = lanes
    self.pool = pool
    self.stored = stored
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
    fileprivate let observer: MergeReport.Observation?

    /// Loads the blocks in order.
    func visit(wantsBase: Bool = false, _ body: (TensorBlock) -> Void) {
      forEachBlock { number, range, part in
        let block = buffers.block(range, number: number, tensor.models)
        if let bad = tensor.load(block, wantsBase, isNew && observer == nil) { tensor.fail(bad) }
        if let observer, !observer.see(block, into: &part),
          let bad = tensor.load(block, wantsBase, true)
        {
          tensor.fail(bad)
        }
        body(block)
      }
    }

    /// The blocks in order as they are stored, of tensors that are `stored` branches.
    func visitStored(_ body: (StoredBlock) -> Void) {
      guard let stored = tensor.stored else { preconditionFailure("not stored as branches") }
      forEachBlock { number, range, part in
        let block = StoredBlock(
          range: range, number: number, branches: stored.from(range.lowerBound))
        if isNew, observer?.see(block, into: &part) != true,
          let bad = tensor.load(buffers.block(range, number: number, tensor.models), false, true)
        {
          tensor.fail(bad)
        }
        body(block)
      }
    }

    /// One of them as floats.
    func load(_ block: StoredBlock) -> TensorBlock {
      let loaded = buffers.block(block.range, number: block.number, tensor.models)
      _ = tensor.load(loaded, false, false)
      return loaded
    }

    private func forEachBlock(
      _ body: (_ number: Int, _ range: Range<Int>, _ part: inout MergeReport.Group) -> Void
    ) {
      let size = tensor.lanes.block
      var part = observer?.empty ?? MergeReport.Group.none
      var start = range.lowerBound
      while start < range.upperBound {
        let end = min(start + size, range.upperBound)
        body(start / size, start..<end, &part)
        start = end
      }
      observer?.add(part, strip: number)
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

  /// Loads short ranges of one length, for those who want an idea of the tensor: some at a time, one after
  /// the other, by the number of the first, on the workers. Nothing is checked. The ranges ascend.
  func probe(_ ranges: [Range<Int>], _ body: (_ first: Int, _ block: TensorBlock) -> Void) {
    guard let length = ranges.first?.count else { return }
    let group = max(1, min(128, lanes.block / length))
    lanes.overChunks(ranges.count, of: group) { _, numbers in
      let buffers = pool.take(models, lanes.block)
      defer { pool.give(buffers) }
      // All are in no cache: asked for together, they do not wait for each other.
      if let stored { stored.touch(ranges[numbers], buffers.out) }
      let all = buffers.block(0..<numbers.count * length, number: 0, models)
      for (place, i) in numbers.enumerated() {
        if let stored {
          stored.from(ranges[i].lowerBound).load(all, at: place * length, length, lanes.merging)
        } else {
          _ = load(all.part(place * length, of: ranges[i]), false, false)
        }
      }
      body(numbers.lowerBound, all)
      // The pages around them were mapped too: of a large tensor all there are.
      release?(ranges[numbers.lowerBound].lowerBound..<ranges[numbers.upperBound - 1].upperBound)
    }
  }

  /// One value a strip, in order.
  func collect<T>(_ empty: T, _ visit: (TensorBlock, inout T) -> Void) throws(Fault) -> [T] {
    try collectStrips(empty) { strip, part in strip.visit { visit($0, &part) } }
  }

  /// The same of blocks as they are stored.
  func collectStored<T>(_ empty: T, _ visit: (StoredBlock, inout T) -> Void) throws(Fault) -> [T] {
    try collectStrips(empty) { strip, part in strip.visitStored { visit($0, &part) } }
  }

  private func collectStrips<T>(
    _ empty: T, _ visit: (Strip, inout T) -> Void
  ) throws(Fault) -> [T] {
    var parts = [T](repeating: empty, count: Lanes.chunks(count, of: lanes.strip))
    let result = parts.withUnsafeMutableBufferPointer { parts -> Result<Void, Fault> in
      let parts = parts
      do throws(Fault) {
        try strips { (strip) throws(Fault) in
          var part = empty
          visit(strip, &part)
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
