// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats
internal import PAFTKernels
internal import Synchronization

/// Makes results block by block, strip by strip as bytes of their type, and hands the strips to the disk.
final class ResultWriter {
  private let plan: MergePlan
  private let encoded: EncodingPool
  private let writes: WriteBehind

  init(_ plan: MergePlan, _ lanes: Lanes) {
    self.plan = plan
    let widest = plan.tensors.map(\.type.size).max() ?? 1
    encoded = EncodingPool(bytes: lanes.strip * widest)
    writes = WriteBehind(lanes.background, bytes: lanes.strip * widest)
  }

  /// Waits for the writes.
  func drain() throws(Fault) { try writes.drain() }

  /// Writes what `combination` makes of a tensor, plus its base where it has one; from several workers.
  /// - Parameter after: sees every block that was filled.
  /// - Returns: the sum of squares of the merged delta; 0 without a base.
  func emit(
    _ tensor: MergePlan.Tensor, _ blocks: TensorBlocks, _ combination: MergeMethod.Combination,
    to target: TensorTarget, after: ((TensorBlock, _ strip: Int) -> Void)?
  ) throws(Fault) -> Double {
    let (lanes, home) = (blocks.lanes, plan.sources[tensor.home])
    let addsBase = tensor.base != nil
    let plainBase = tensor.base.flatMap { base in
      tensor.type == .bf16 && base.isAlignedBF16 && home.isPlain(base.name) ? base : nil
    }
    let limit = Self.largest(tensor.type)
    let squares = Mutex([Double](repeating: 0, count: Lanes.chunks(blocks.count, of: lanes.strip)))
    try blocks.strips { (strip) throws(Fault) in
      let start = strip.number * lanes.strip
      let buffer = encoded.take(target, at: start)
      let isAligned = Int(bitPattern: buffer.start) % 2 == 0
      var sum = 0.0
      var filled = 0
      var failure: Fault?
      /// The result of a block that `combination` filled, in BF16.
      func finish(_ block: TensorBlock, _ base: TensorEntry) {
        let beyond = lanes.merging.finish_bf16(
          (buffer.start + filled).assumingMemoryBound(to: UInt16.self), block.out,
          base.halves + block.range.lowerBound, limit, &sum, block.count)
        filled += block.count * 2
        if beyond > 0 { refuse(block, base) }
      }
      func refuse(_ block: TensorBlock, _ base: TensorEntry) {
        guard failure == nil else { return }
        _ = home.load(base, block.range, into: block.base, checked: false, lanes)
        lanes.merging.add_f32(block.out, block.base, block.count)
        failure = Self.unfit(tensor, block.out, block.range, limit)
      }
      if let plainBase, isAligned, blocks.stored != nil, let agreement = combination.agreement {
        strip.visitStored { stored in
          let place = (buffer.start + filled).assumingMemoryBound(to: UInt16.self)
          let beyond = agreement.merge(
            stored, to: place, limit: limit, squares: &sum, lanes.merging)
          if beyond == 0 {
            filled += stored.count * 2
            return
          }
          let block = strip.load(stored)
          combination.fill(block)
          if beyond == nil { finish(block, plainBase) } else { refuse(block, plainBase) }
        }
      } else {
        strip.visit(wantsBase: addsBase && (plainBase == nil || !isAligned)) { block in
          let (out, count) = (block.out, block.count)
          combination.fill(block)
          after?(block, strip.number)
          if let plainBase, isAligned { return finish(block, plainBase) }
          if addsBase {
            sum += lanes.vectors.sumSquares_f32(out, count)
            lanes.merging.add_f32(out, block.base, count)
          }
          if failure == nil, lanes.merging.countBeyond_f32(out, limit, count) > 0 {
            failure = Self.unfit(tensor, out, block.range, limit)
          }
          encode(out, count, target, to: buffer.start + filled, lanes)
          filled += count * tensor.type.size
        }
      }
      if let failure { throw failure }
      try writes.add { [encoded, filled] () throws(Fault) in
        defer { encoded.give(buffer) }
        try target.write(
          UnsafeRawBufferPointer(start: buffer.start, count: filled), element: start)
      }
      squares.withLock { $0[strip.number] = sum }
    }
    return squares.withLock { $0.reduce(0, +) }
  }

  private func encode(
    _ values: UnsafePointer<Float>, _ count: Int, _ target: TensorTarget,
    to place: UnsafeMutableRawPointer, _ lanes: Lanes
  ) {
    guard target.dtype.size == 2, Int(bitPattern: place) % 2 == 0 else {
      return target.encode(values, count: count, to: place)
    }
    let halves = place.assumingMemoryBound(to: UInt16.self)
    if target.dtype == .bf16 {
      lanes.vectors.toBF16(halves, values, count, 0)
    } else {
      lanes.merging.toF16(halves, values, count)
    }
  }

  /// The largest finite values of the narrow types; above them rounding gives infinity.
  private static func largest(_ type: DType) -> Float {
    switch type {
    case .f16: 65519.99
    case .bf16: 0x1.FEFFFEp127
    default: .greatestFiniteMagnitude
    }
  }

  private static func unfit(
    _ tensor: MergePlan.Tensor, _ result: UnsafePointer<Float>, _ range: Range<Int>, _ limit: Float
  ) -> Fault {
    let bad = (0..<range.count).first { !(abs(result[$0]) <= limit) } ?? 0
    let place = "merged tensor \(quoted(tensor.name)) holds \(result[bad])"
    guard result[bad].isFinite else {
      return Fault(.notFinite, "\(place) at element \(range.lowerBound + bad)")
    }
    return Fault(
      .notFinite, "\(place), too large for \(ModelFiles.name(of: tensor.type))",
      hint: "set out_dtype: float32")
  }
}
